/**
 * What every part says of itself, in one book: `/health`, the status page and `holdfast status` are read from it.
 *
 * The whole is `failing` (503) only when the journal is: then nothing can be promised, and a restart or a person
 * must mend it. Any other part that fails makes the whole `degraded`: events are still made durable, and what is
 * broken heals by itself or is told in `detail`. An orchestrator that restarts on 503 must not restart a device
 * because its upstream is away.
 *
 * A component's key is the part's name in the configuration. Where that is taken (by one of the agent's own, such
 * as `journal`, or by a part of another kind) it is `kind.name`, such as `sink.journal`.
 */
import type { Clock } from "../core/clock.ts";
import type { Figures, Health, HealthStatus } from "../core/context.ts";

export type ComponentKind = "agent" | "source" | "processor" | "sink";

export interface ComponentSnapshot extends Figures {
  readonly status: HealthStatus;
  readonly kind: ComponentKind;
  /** ISO 8601: since when it has this status. */
  readonly since: string;
}

export interface HealthSnapshot {
  readonly status: HealthStatus;
  readonly version: string;
  readonly device: string;
  readonly uptimeSeconds: number;
  readonly components: Readonly<Record<string, ComponentSnapshot>>;
}

export interface HealthBook {
  /** Registers a part, ok until it says otherwise. The agent's own parts are registered first. */
  component(kind: ComponentKind, name: string): Health;
  snapshot(): HealthSnapshot;
}

export interface HealthParts {
  readonly clock: Clock;
  readonly version: string;
  /** Known once the journal is open. */
  readonly device: () => string;
}

/** A detail is one sentence; a foreign error's text may be longer, characters. */
const detailMax = 500;

interface Entry {
  readonly kind: ComponentKind;
  status: HealthStatus;
  detail: string | undefined;
  sinceMonotonicMs: number;
  read: () => Figures;
}

export function createHealthBook({ clock, version, device }: HealthParts): HealthBook {
  const startedMs = clock.monotonicMs();
  const entries = new Map<string, Entry>();
  return {
    component(kind, name) {
      const key = entries.has(name) ? `${kind}.${name}` : name;
      if (entries.has(key)) throw new Error(`Health component ${key} is registered twice`);
      const entry: Entry = {
        kind,
        status: "ok",
        detail: undefined,
        sinceMonotonicMs: clock.monotonicMs(),
        read: () => ({}),
      };
      entries.set(key, entry);
      return {
        report(status, detail) {
          if (status !== entry.status) entry.sinceMonotonicMs = clock.monotonicMs();
          entry.status = status;
          entry.detail = status === "ok" ? undefined : detail?.slice(0, detailMax);
        },
        figures(read) {
          entry.read = read;
        },
      };
    },
    snapshot() {
      const [wallMs, monotonicMs] = [clock.wallMs(), clock.monotonicMs()];
      const components = Object.fromEntries(
        [...entries].map(([key, entry]): [string, ComponentSnapshot] => [
          key,
          {
            ...entry.read(),
            status: entry.status,
            kind: entry.kind,
            // Reckoned back by the clock that never jumps: a time sync puts it right by itself.
            since: new Date(wallMs - (monotonicMs - entry.sinceMonotonicMs)).toISOString(),
            ...(entry.detail !== undefined && { detail: entry.detail }),
          },
        ]),
      );
      return {
        status: overall(entries),
        version,
        device: device(),
        uptimeSeconds: Math.round((monotonicMs - startedMs) / 1000),
        components,
      };
    },
  };
}

const severity: readonly HealthStatus[] = ["ok", "degraded", "failing"];

/** One line for two parts that report apart: the worse of what they say, the first one's where both say the same. */
export function sharedHealth(health: Health): readonly [Health, Health] {
  const said: { status: HealthStatus; detail?: string | undefined }[] = [
    { status: "ok" },
    { status: "ok" },
  ];
  const part = (index: 0 | 1): Health => ({
    report(status, detail) {
      said[index] = { status, detail };
      const [first = { status }, second = { status }] = said;
      const isFirst = severity.indexOf(first.status) >= severity.indexOf(second.status);
      const worse = isFirst ? first : second;
      health.report(worse.status, worse.detail);
    },
    figures: (read) => health.figures(read),
  });
  return [part(0), part(1)];
}

function overall(entries: ReadonlyMap<string, Entry>): HealthStatus {
  if (entries.get("journal")?.status === "failing") return "failing";
  return [...entries.values()].every((entry) => entry.status === "ok") ? "ok" : "degraded";
}

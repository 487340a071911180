/** A context whose log, health and metrics can be looked at. */
import type { Clock } from "../../src/core/clock.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { Context, Figures, HealthStatus } from "../../src/core/context.ts";

export interface RecordingContext extends Context {
  readonly lines: { level: string; message: string; fields: unknown }[];
  readonly reports: { status: HealthStatus; detail: string | undefined }[];
  /** The last report. */
  readonly now: () => { status: HealthStatus; detail: string | undefined };
  readonly readFigures: () => Figures;
  /** Sums by `name{label="value",…}`. */
  readonly sums: Map<string, number>;
}

export function recordingContext(name = "test", clock?: Clock): RecordingContext {
  const lines: RecordingContext["lines"] = [];
  const reports: RecordingContext["reports"] = [];
  const sums = new Map<string, number>();
  let readFigures: () => Figures = () => ({});
  const log =
    (level: string) =>
    (message: string, fields?: unknown): void => {
      lines.push({ level, message, fields });
    };
  const seriesName = (metric: string, labels: Readonly<Record<string, string>>): string =>
    `${metric}{${Object.entries(labels)
      .map(([key, value]) => `${key}="${value}"`)
      .join(",")}}`;
  return {
    name,
    lines,
    reports,
    sums,
    now: () => reports.at(-1) ?? { status: "ok", detail: undefined },
    readFigures: () => readFigures(),
    log: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    clock: clock ?? systemClock(() => "synced"),
    random: () => 0.5,
    health: {
      report: (status, detail) => reports.push({ status, detail }),
      figures: (read) => {
        readFigures = read;
      },
    },
    metrics: {
      counter: (metric, labels) => ({
        add: (count = 1) => {
          const key = seriesName(metric, labels);
          sums.set(key, (sums.get(key) ?? 0) + count);
        },
      }),
      gauge: (metric, labels) => ({ set: (value) => sums.set(seriesName(metric, labels), value) }),
      histogram: (metric, labels) => ({
        observe: () => {
          const key = seriesName(metric, labels);
          sums.set(key, (sums.get(key) ?? 0) + 1);
        },
      }),
      onScrape: () => undefined,
    },
  };
}

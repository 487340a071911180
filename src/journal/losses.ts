/**
 * What was dropped before every group had passed it, told: the metric counts each event, the log has the first of a
 * stream and reason at once and then a sum each minute, and health is degraded until `overMs` after the last, so that
 * a technician who comes in that time sees which streams lose events, since when, and what helps.
 *
 * Bound: one entry for each stream and reason.
 */
import type { Context, Figures } from "../core/context.ts";
import type { Dropped } from "./protocol.ts";

const tellEveryMs = 60_000;
/** Drops come in steps (retention.ts): some minutes without one mean that it is over. */
export const overMs = 5 * 60_000;
/** Streams that the sentence names. */
const namedMax = 5;

/** What helps, beside bringing back the group that lags; a dead letter's bound is not about room. */
const remedies: Readonly<Record<string, string>> = {
  quota: "raise journal.maxBytes",
  thinned: "raise journal.maxBytes or the stream's own",
  "stream-bytes": "raise the stream's maxBytes",
  expired: "raise the stream's maxAge",
};

interface Loss {
  readonly stream: string;
  readonly reason: string;
  /** Of what health tells now. */
  sinceMs: number;
  lastMs: number;
  events: number;
  untold: number;
  nextMs: number;
}

export class Losses {
  readonly #context: Context;
  readonly #losses = new Map<string, Loss>();
  #dropped = 0;

  constructor(context: Context) {
    this.#context = context;
  }

  note(dropped: readonly Dropped[]): void {
    for (const { stream, events, reason } of dropped) {
      this.#dropped += events;
      this.#context.metrics
        .counter("holdfast_journal_dropped_total", { stream, reason })
        .add(events);
      this.#count(stream, reason, events);
    }
  }

  #count(stream: string, reason: string, events: number): void {
    const { clock, log } = this.#context;
    const nowMs = clock.monotonicMs();
    const key = `${stream}\0${reason}`;
    const fresh = { stream, reason, sinceMs: nowMs, lastMs: nowMs, events: 0 };
    let loss = this.#losses.get(key);
    if (loss === undefined) loss = { ...fresh, untold: 0, nextMs: nowMs };
    else if (nowMs - loss.lastMs > overMs) Object.assign(loss, fresh);
    this.#losses.set(key, loss);
    loss.lastMs = nowMs;
    loss.events += events;
    loss.untold += events;
    if (nowMs < loss.nextMs) return;
    log.warn(`Stream ${stream} lost ${loss.untold} events to ${reason}`);
    loss.untold = 0;
    loss.nextMs = nowMs + tellEveryMs;
  }

  /** Which streams lose events, since when, and what helps; null: none has for some minutes. */
  sentence(): string | null {
    const losses = this.#present();
    if (losses.length === 0) return null;
    const named = losses
      .slice(0, namedMax)
      .map(({ stream, reason, events }) => `${stream} ${events} (${reason})`)
      .join(", ");
    const more = losses.length > namedMax ? ` and ${losses.length - namedMax} more` : "";
    const help = [...new Set(losses.map(({ reason }) => remedies[reason]))].join(", ");
    return `Events were dropped before all had them, since ${this.#since(losses)}: ${named}${more}; bring back what lags behind (holdfast groups), or ${help}`;
  }

  figures(): Figures {
    const losses = this.#present();
    const losingSince = losses.length === 0 ? null : this.#since(losses);
    return { dropped: this.#dropped, losingSince };
  }

  #present(): readonly Loss[] {
    const nowMs = this.#context.clock.monotonicMs();
    return [...this.#losses.values()].filter(
      ({ reason, lastMs }) => remedies[reason] !== undefined && nowMs - lastMs <= overMs,
    );
  }

  #since(losses: readonly Loss[]): string {
    const { clock } = this.#context;
    const sinceMs = Math.min(...losses.map((loss) => loss.sinceMs));
    return new Date(clock.wallMs() - (clock.monotonicMs() - sinceMs)).toISOString();
  }
}

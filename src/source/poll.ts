/**
 * A poll that keeps its phase: due at start + n × every by the monotone clock, however long a reading takes and
 * whatever the wall clock does. It never piles up: a reading that is still under way when the next is due, or an
 * intake without room, costs that one reading, counted as skipped.
 */
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { duration } from "../core/field.ts";
import type { Intake } from "./source.ts";

/** What every polling source lets the user say. */
export function pollEvery(standard: string) {
  return duration({ doc: "How often it is read", default: standard, min: "100ms", max: "1d" });
}

/**
 * A timer may fire that much before its time by another clock: libuv counts whole milliseconds, and its idea of now is
 * that of the loop's last turn. It must not meet the same multiple twice.
 */
const earlyMsMax = 2;

interface PollParts {
  readonly context: Context;
  readonly intake: Intake;
  readonly everyMs: number;
  /** One reading. What it throws is a mistake of ours: readings that fail are told in health. */
  readonly read: (signal: AbortSignal) => Promise<void>;
}

export class Poll {
  readonly #parts: PollParts;
  readonly #stopping = new AbortController();
  readonly #startMs: number;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #skipped = 0;
  #nextTurn = 0;

  /** Reads at once, then at each multiple of `everyMs`. */
  constructor(parts: PollParts) {
    this.#parts = parts;
    this.#startMs = parts.context.clock.monotonicMs();
    this.#tick();
  }

  get skipped(): number {
    return this.#skipped;
  }

  /** Waits for a reading that is under way. May be called twice. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#timer?.cancel();
    await this.#running;
  }

  #tick(): void {
    const { context, everyMs, intake, read } = this.#parts;
    if (this.#stopping.signal.aborted) return;
    const sinceStartMs = context.clock.monotonicMs() - this.#startMs;
    const turn = Math.floor((sinceStartMs + earlyMsMax) / everyMs);
    this.#timer = context.clock.after((turn + 1) * everyMs - sinceStartMs, () => this.#tick());
    // After a stall of the whole process some have passed unseen.
    this.#skip(turn - this.#nextTurn);
    this.#nextTurn = turn + 1;
    if (this.#running !== undefined || !intake.hasRoom()) {
      this.#skip(1);
      return;
    }
    this.#running = read(this.#stopping.signal).finally(() => {
      this.#running = undefined;
    });
  }
  #skip(count: number): void {
    if (count <= 0) return;
    const { name, metrics } = this.#parts.context;
    this.#skipped += count;
    metrics.counter("holdfast_source_events_total", { source: name, status: "skipped" }).add(count);
  }
}

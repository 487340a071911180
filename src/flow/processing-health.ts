/** What a processor shows of itself: its metrics, and its line in `/health`. */
import type { Context, HealthStatus } from "../core/context.ts";
import type { Counter, Histogram } from "../core/metrics.ts";
import { keptAfter, type Journal } from "../journal/journal.ts";
import type { Chain } from "../processor/processor.ts";
import type { Policy } from "./decide.ts";
import type { RetryRows } from "./retry-rows.ts";
import type { Verdicts } from "./verdicts.ts";

/** A processor that fails more of its events than this is degraded: one in ten is no sender's bad day. */
const failingShareMax = 0.1;
/** The share is taken over about this many of the last events. */
const shareEvents = 200;

export interface ProcessingHealthParts {
  readonly context: Context;
  readonly journal: Journal;
  readonly from: readonly string[];
  readonly policy: Policy;
  readonly rows: RetryRows;
  readonly chain: Chain;
}

export class ProcessingHealth {
  readonly #parts: ProcessingHealthParts;
  readonly #counters = new Map<string, Counter>();
  readonly #seconds = new Map<string, Histogram>();
  #events = 0;
  #failures = 0;
  #total = { success: 0, dead_letter: 0, dropped: 0 };
  #shown = "";
  /** The journal's last answer to a commit, while it refuses. */
  journalTrouble: string | null = null;
  /** Why it stands still; null: it does not. */
  pausedFor: string | null = null;
  /** Why the processor has stopped for good. */
  fatal: string | null = null;
  #waitsForClock = false;

  constructor(parts: ProcessingHealthParts) {
    this.#parts = parts;
    const { context, from, chain } = parts;
    const gauges = from.map((stream) => ({
      stream,
      gauge: context.metrics.gauge("stream_lag", { stream, group: context.name }),
    }));
    context.metrics.onScrape(() => {
      for (const { stream, gauge } of gauges) gauge.set(this.#lagOf(stream));
      for (const { step, rows } of chain.figures()) {
        const labels = { processor: context.name, step };
        context.metrics.gauge("holdfast_step_rows", labels).set(rows);
      }
    });
    context.health.figures(() => ({
      lag: from.reduce((sum, stream) => sum + this.#lagOf(stream), 0),
      waitingForRetry: parts.rows.count,
      processed: this.#total.success,
      deadLetters: this.#total.dead_letter,
      dropped: this.#total.dropped,
      failingShare: Math.round(this.#share() * 1000) / 1000,
    }));
  }

  /** It reports when that changes. */
  set waitsForClock(waits: boolean) {
    if (waits === this.#waitsForClock) return;
    this.#waitsForClock = waits;
    this.report();
  }

  get waitsForClock(): boolean {
    return this.#waitsForClock;
  }

  /** A run is durable. */
  count(stream: string, succeeded: number, verdicts: Verdicts): void {
    const { chain, context } = this.#parts;
    for (const { step, what, count } of chain.takeCounts()) {
      const labels = { processor: context.name, step, what };
      context.metrics.counter("holdfast_step_events_total", labels).add(count);
    }
    const { errors, dropped, deadLetters } = verdicts;
    const failed = errors + dropped + deadLetters.length;
    this.#add(stream, "success", succeeded);
    this.#add(stream, "error", errors);
    this.#add(stream, "dead_letter", deadLetters.length);
    this.#add(stream, "dropped", dropped);
    this.#total.success += succeeded;
    this.#total.dead_letter += deadLetters.length;
    this.#total.dropped += dropped;
    this.#events += succeeded + failed;
    this.#failures += failed;
    if (this.#events > shareEvents) {
      this.#events /= 2;
      this.#failures /= 2;
    }
    this.report();
  }

  took(stream: string, ms: number): void {
    const labels = { stream, group: this.#parts.context.name };
    let histogram = this.#seconds.get(stream);
    if (histogram === undefined) {
      histogram = this.#parts.context.metrics.histogram("stream_processing_seconds", labels);
      this.#seconds.set(stream, histogram);
    }
    histogram.observe(ms / 1000);
  }

  /** Reports when what there is to say has changed. */
  report(): void {
    const [status, detail] = this.#judge();
    const said = `${status} ${detail ?? ""}`;
    if (said === this.#shown) return;
    this.#shown = said;
    this.#parts.context.health.report(status, detail);
  }

  #judge(): [HealthStatus, string?] {
    const { rows, policy } = this.#parts;
    if (this.fatal !== null) return ["failing", `The processor has stopped: ${this.fatal}`];
    if (this.pausedFor !== null) return ["degraded", this.pausedFor];
    if (this.journalTrouble !== null) {
      return [
        "degraded",
        `The journal takes no results, they are tried again: ${this.journalTrouble}`,
      ];
    }
    if (this.#waitsForClock) {
      return ["degraded", "The clock was not set since the boot: steps that need the time wait"];
    }
    if (!rows.hasRoom()) {
      return [
        "degraded",
        "Too many events wait for a retry: the processor stands still until some are resolved",
      ];
    }
    if (policy.onFailure === "block" && rows.attemptsMost >= policy.attempts) {
      return [
        "degraded",
        "An event keeps failing: later events of its key wait behind it (onFailure: block)",
      ];
    }
    if (this.#share() > failingShareMax) return ["degraded", "More than one event in ten fails"];
    return ["ok"];
  }

  /** At least ten events make a share. */
  #share(): number {
    return this.#events < 10 ? 0 : this.#failures / this.#events;
  }

  #lagOf(stream: string): number {
    const { journal, context } = this.#parts;
    const status = journal.status().streams.get(stream);
    return status === undefined ? 0 : keptAfter(status, journal.cursor(context.name, stream).seq);
  }

  #add(stream: string, status: string, count: number): void {
    if (count === 0) return;
    const name = `${stream}\0${status}`;
    let counter = this.#counters.get(name);
    if (counter === undefined) {
      const labels = { stream, group: this.#parts.context.name, status };
      counter = this.#parts.context.metrics.counter("stream_messages_processed_total", labels);
      this.#counters.set(name, counter);
    }
    counter.add(count);
  }
}

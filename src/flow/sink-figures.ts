/** What a sink has done and what is still before it, in numbers: metrics and health. */
import type { Context, Figures } from "../core/context.ts";
import type { Journal } from "../journal/journal.ts";
import type { SendResult } from "../sink/sink.ts";
import type { Backlog } from "./backlog.ts";
import { FillRate } from "./fill-rate.ts";

/** Intake ends here (invariant 5). */
const intakeShare = 0.9;

export type Outcome = "sent" | "delivered" | "refused" | "retried" | "trimmed";

export class SinkFigures {
  readonly #context: Context;
  readonly #backlog: Backlog;
  readonly #journal: Pick<Journal, "status">;
  readonly #streams: readonly string[];
  readonly #counts: Record<Outcome, number> = {
    sent: 0,
    delivered: 0,
    refused: 0,
    retried: 0,
    trimmed: 0,
  };
  readonly #fill = new FillRate();
  #wireBytes = 0;
  #plainBytes = 0;

  constructor(
    context: Context,
    backlog: Backlog,
    journal: Pick<Journal, "status">,
    streams: readonly string[],
  ) {
    this.#context = context;
    this.#backlog = backlog;
    this.#journal = journal;
    this.#streams = streams;
  }

  /** `more`: what the loop itself knows. */
  publish(more: () => Figures): void {
    const { metrics, health, name } = this.#context;
    const atRisk = metrics.gauge("holdfast_sink_at_risk_bytes", { sink: name });
    const events = metrics.gauge("holdfast_sink_at_risk_events", { sink: name });
    const full = metrics.gauge("holdfast_sink_full_seconds", { sink: name });
    // A rate can be told from the first one on only of a series that was there before it.
    for (const status of Object.keys(this.#counts)) {
      metrics.counter("holdfast_sink_events_total", { sink: name, status });
    }
    metrics.onScrape(() => {
      atRisk.set(this.#atRiskBytes());
      events.set(this.#waiting());
      this.grew();
      full.set(this.#fullSeconds() ?? Number.POSITIVE_INFINITY);
    });
    health.figures(() => ({
      waiting: this.#waiting(),
      oldestUnsentSeconds: Math.round(this.#backlog.oldestSeconds()),
      atRiskBytes: this.#atRiskBytes(),
      fullSeconds: this.#fullSeconds(),
      ...this.#counts,
      wireBytes: this.#wireBytes,
      ...(this.#plainBytes > 0 && {
        compressedTo: Math.round((this.#wireBytes / this.#plainBytes) * 1000) / 1000,
      }),
      ...more(),
    }));
  }

  /** The journal has grown. */
  grew(): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (this.#fill.isDue(nowMs)) this.#fill.sample(nowMs, this.#atRiskBytes());
  }

  #fullSeconds(): number | null {
    return this.#fill.secondsUntil(this.#journal.status().maxBytes * intakeShare);
  }

  count(status: Outcome, events: number): void {
    if (events === 0) return;
    this.#counts[status] += events;
    const { metrics, name } = this.#context;
    metrics.counter("holdfast_sink_events_total", { sink: name, status }).add(events);
  }

  sent({ wireBytes = 0, plainBytes = 0 }: SendResult): void {
    const { metrics, name } = this.#context;
    if (wireBytes > 0) {
      this.#wireBytes += wireBytes;
      metrics.counter("holdfast_sink_wire_bytes_total", { sink: name }).add(wireBytes);
    }
    if (plainBytes > 0) {
      this.#plainBytes += plainBytes;
      metrics.counter("holdfast_sink_plain_bytes_total", { sink: name }).add(plainBytes);
    }
  }

  #waiting(): number {
    return this.#streams.reduce((sum, stream) => sum + this.#backlog.kept(stream), 0);
  }

  /** As the journal stores them, taking a stream's events to be of one size. */
  #atRiskBytes(): number {
    const { streams } = this.#journal.status();
    const bytes = this.#streams.map((stream) => {
      const status = streams.get(stream);
      const kept = this.#backlog.kept(stream);
      if (status === undefined || kept === 0) return 0;
      return status.bytes * Math.min(1, kept / Math.max(1, status.head - status.first + 1));
    });
    return Math.round(bytes.reduce((sum, each) => sum + each, 0));
  }
}

/** What a group has not passed yet, known without asking the disk: how many events, and how old the oldest is. */
import type { Context } from "../core/context.ts";
import { keptAfter, type Journal } from "../journal/journal.ts";

export class Backlog {
  readonly #context: Context;
  readonly #streams: readonly string[];
  readonly #heads = new Map<string, number>();
  readonly #passed = new Map<string, number>();
  /** How many of those behind it are passed as well. */
  readonly #beyond = new Map<string, number>();
  /** Receipt of the oldest event that waits, or of the one before it: never too young. */
  readonly #oldestAt = new Map<string, number>();

  #journal: Pick<Journal, "status"> | undefined;

  constructor(context: Context, streams: readonly string[]) {
    this.#context = context;
    this.#streams = streams;
  }

  /** Follows the journal; `wake` is called when a stream of ours has grown. Gives back what ends that. */
  follow(journal: Pick<Journal, "onAppended" | "status">, wake: () => void): () => void {
    this.#journal = journal;
    const { streams } = journal.status();
    for (const stream of this.#streams) this.grow(stream, streams.get(stream)?.head ?? 0);
    return journal.onAppended((stream, head) => {
      if (!this.#streams.includes(stream)) return;
      if (this.lag(stream) === 0) this.#oldestAt.set(stream, this.#context.clock.wallMs());
      this.grow(stream, head);
      wake();
    });
  }

  grow(stream: string, head: number): void {
    this.#heads.set(stream, Math.max(head, this.head(stream)));
  }

  /**
   * Everything up to `seq` is passed, and so many beyond; `receivedAt`: when the event of that seq came, where that
   * is known.
   */
  pass(stream: string, seq: number, beyond: number, receivedAt?: number): void {
    this.#passed.set(stream, seq);
    this.#beyond.set(stream, beyond);
    if (this.lag(stream) === 0) this.#oldestAt.delete(stream);
    else if (receivedAt !== undefined) this.#oldestAt.set(stream, receivedAt);
  }

  head(stream: string): number {
    return this.#heads.get(stream) ?? 0;
  }

  heads(streams: readonly string[]): (readonly [stream: string, head: number])[] {
    return streams.map((stream) => [stream, this.head(stream)]);
  }

  /** Seqs, whether or not their events are still there. */
  lag(stream: string): number {
    const passed = (this.#passed.get(stream) ?? 0) + (this.#beyond.get(stream) ?? 0);
    return Math.max(0, this.head(stream) - passed);
  }

  /** Events that are still there. */
  kept(stream: string): number {
    const status = this.#journal?.status().streams.get(stream);
    if (status === undefined) return 0;
    const kept = keptAfter(status, this.#passed.get(stream) ?? 0);
    return Math.max(0, kept - (this.#beyond.get(stream) ?? 0));
  }

  total(): number {
    return this.#streams.reduce((sum, stream) => sum + this.lag(stream), 0);
  }

  /** Seconds; 0 when nothing waits. A clock that was put back makes no negative age. */
  oldestSeconds(): number {
    const oldest = Math.min(...this.#oldestAt.values());
    if (oldest === Number.POSITIVE_INFINITY) return 0;
    return Math.max(0, this.#context.clock.wallMs() - oldest) / 1000;
  }

  /** Sets the gauges before each scrape. */
  publish(): void {
    const { metrics, name } = this.#context;
    const lags = this.#streams.map((stream) => ({
      stream,
      gauge: metrics.gauge("stream_lag", { stream, group: name }),
    }));
    const oldest = metrics.gauge("holdfast_sink_oldest_unsent_seconds", { sink: name });
    metrics.onScrape(() => {
      for (const { stream, gauge } of lags) gauge.set(this.kept(stream));
      oldest.set(this.oldestSeconds());
    });
  }
}

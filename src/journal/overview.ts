/** What the main thread knows of the journal without asking the disk, and what it tells metrics and health. */
import type { Context, Figures } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Counter, Histogram } from "../core/metrics.ts";
import {
  keptAfter,
  type Cursor,
  type JournalIdentity,
  type JournalStatus,
  type StreamStatus,
} from "./journal.ts";
import { Losses } from "./losses.ts";
import type { Damage, TurnResult, WorkerFigures } from "./protocol.ts";

const emptyStream: StreamStatus = { first: 1, head: 0, bytes: 0, deadLetters: 0 };
/** Damaged ranges that are named; more are only counted. */
const damagesMax = 100;

export class Overview {
  readonly #context: Context;
  readonly #maxBytes: number;
  readonly #streams = new Map<string, StreamStatus>();
  readonly #cursors = new Map<string, Map<string, Cursor>>();
  readonly #grown = new Set<string>();
  readonly #damaged = new Map<string, Damage>();
  readonly #commits: Counter;
  readonly #commitSeconds: Histogram;
  readonly losses: Losses;
  #identity: JournalIdentity | undefined;
  #usedBytes = 0;
  #failure: HoldfastError | null = null;
  /** What is damaged, in a sentence; null: nothing that was met. */
  damage: string | null = null;

  /** `more`: figures that another knows. */
  constructor(context: Context, maxBytes: number, more: () => Figures) {
    this.#context = context;
    this.#maxBytes = maxBytes;
    this.losses = new Losses(context);
    const { metrics, health } = context;
    this.#commits = metrics.counter("holdfast_journal_commits_total", {});
    this.#commitSeconds = metrics.histogram("holdfast_journal_commit_seconds", {});
    const events = metrics.gauge("holdfast_journal_events", {});
    const bytes = metrics.gauge("holdfast_journal_bytes", {});
    metrics.onScrape(() => {
      events.set(this.#events());
      bytes.set(this.#usedBytes);
      for (const [stream, { deadLetters }] of this.#streams) {
        metrics.gauge("holdfast_dlq_events", { stream }).set(deadLetters);
      }
    });
    health.figures(() => ({ ...this.#figures(), ...more() }));
  }

  opened(identity: JournalIdentity, figures: WorkerFigures): void {
    this.#identity = identity;
    this.#note(figures);
    this.#grown.clear();
  }

  committed(result: Extract<TurnResult, { kind: "done" }>): void {
    this.#failure = null;
    if (result.commits > 0) {
      this.#commits.add();
      this.#commitSeconds.observe(result.commitMs / 1000);
    }
    this.#note(result.figures);
    this.losses.note(result.dropped);
  }

  failed(error: HoldfastError): void {
    this.#failure = error;
  }

  damaged(ranges: readonly Damage[]): void {
    for (const range of ranges) {
      const key = `${range.stream}\0${range.from}`;
      if (this.#damaged.has(key) || this.#damaged.size >= damagesMax) continue;
      this.#damaged.set(key, range);
      const { stream, from, to } = range;
      this.damage = `Stream ${stream}: events ${from} to ${to} are damaged on the disk and were skipped`;
      this.#context.log.error(this.damage, { damagedRanges: this.#damaged.size });
      this.#context.health.report("degraded", this.damage);
    }
  }

  /** True once after the stream's head has moved. */
  grew(stream: string): boolean {
    return this.#grown.delete(stream);
  }

  identity(): JournalIdentity {
    if (this.#identity === undefined) {
      throw new HoldfastError("JOURNAL_UNAVAILABLE", "The journal is not open");
    }
    return this.#identity;
  }

  stream(name: string): StreamStatus {
    return this.#streams.get(name) ?? emptyStream;
  }

  cursor(group: string, stream: string): Cursor {
    const found = this.#cursors.get(group)?.get(stream);
    return found ?? { seq: this.stream(stream).first - 1, mark: null };
  }

  status(full: boolean): JournalStatus {
    return {
      streams: this.#streams,
      groups: [...this.#cursors].flatMap(([group, cursors]) =>
        [...cursors].map(([stream, { seq }]) => ({ group, stream, cursor: seq })),
      ),
      usedBytes: this.#usedBytes,
      maxBytes: this.#maxBytes,
      full,
      failure: this.#failure,
    };
  }

  #note(figures: WorkerFigures): void {
    for (const [name, status] of figures.streams) {
      if (status.head > this.stream(name).head) this.#grown.add(name);
      this.#streams.set(name, status);
    }
    for (const [group, stream, cursor] of figures.cursors) {
      const cursors = this.#cursors.get(group) ?? new Map<string, Cursor>();
      this.#cursors.set(group, cursors.set(stream, cursor));
    }
    this.#usedBytes = figures.usedBytes;
  }

  #events(): number {
    return [...this.#streams.values()].reduce((sum, status) => sum + keptAfter(status, 0), 0);
  }

  #figures(): Figures {
    return {
      events: this.#events(),
      usedBytes: this.#usedBytes,
      maxBytes: this.#maxBytes,
      ...this.losses.figures(),
      damagedRanges: this.#damaged.size,
      epoch: this.#identity?.epoch ?? null,
    };
  }
}

/** What the main thread knows of the journal without asking the disk, and what it tells metrics and health. */
import type { Context, Figures } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Counter, Histogram } from "../core/metrics.ts";
import {
  keptAfter,
  type CompactResult,
  type Cursor,
  type Damage,
  type JournalIdentity,
  type JournalStatus,
  type StreamStatus,
} from "./journal.ts";
import { Losses } from "./losses.ts";
import type { News, Opening, TurnResult, WorkerFigures } from "./protocol.ts";

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
  #fileBytes = 0;
  #work: JournalStatus["work"] = null;
  /** When everything was last read through, by the wall clock. */
  #checkedAtMs: number | null = null;
  #failure: HoldfastError | null = null;
  /** What is damaged, in a sentence; null: nothing that was met. */
  damage: string | null = null;
  /** Resolves when a salvage has ended; null: none is under way. */
  salvage: Promise<void> | null = null;
  #endSalvage: (() => void) | undefined;

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

  opened(opening: Extract<Opening, { kind: "opened" }>): void {
    this.#identity = opening.identity;
    this.#note(opening.figures);
    this.#grown.clear();
    this.damaged(opening.damaged);
    if (opening.salvaging !== null) this.#salvaging(opening.salvaging, 0);
    if (opening.lostAfter !== null) {
      this.#damage(
        `The journal's write-ahead log was missing, though the journal had not been closed in order: what came after ${namedHeads(opening.lostAfter)} is gone, and a new epoch has begun`,
      );
    }
  }

  news(news: News): void {
    if (news.kind === "salvaging") this.#salvaging(news.file, news.progress);
    else if (news.kind === "salvaged") this.#salvaged(news);
    else if (news.kind === "checked") {
      this.#checkedAtMs = this.#context.clock.wallMs();
      this.damaged(news.result.damaged);
    } else {
      const { what, progress } = news;
      this.#work = progress === null ? null : { what, progress };
    }
  }

  #salvaged(news: Extract<News, { kind: "salvaged" }>): void {
    this.#identity = news.identity;
    this.#note(news.figures);
    this.#grown.clear();
    this.#damage(
      `The journal was damaged and is salvaged, the damaged file is kept as ${news.file}: what came after ${namedHeads(news.heads)} is gone`,
    );
    this.damaged(news.damaged);
    this.salvage = null;
    this.#endSalvage?.();
  }

  /** Told where a technician looks. */
  #damage(sentence: string): void {
    this.damage = sentence;
    this.#context.log.error(sentence);
    this.#context.health.report("degraded", sentence);
  }

  #salvaging(file: string, progress: number): void {
    if (this.salvage === null) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.salvage = promise;
      this.#endSalvage = resolve;
    }
    this.damage = `The journal was damaged: events are taken in, and what can be read of ${file} is salvaged, ${Math.floor(progress * 100)} % done`;
    this.#context.log.warn(this.damage);
    this.#context.health.report("degraded", this.damage);
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
      this.#context.metrics
        .counter("holdfast_journal_lost_total", { stream })
        .add(Math.max(0, to - from + 1));
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

  began(identity: JournalIdentity): void {
    this.#identity = identity;
  }

  compacted({ afterBytes }: CompactResult): void {
    this.#fileBytes = afterBytes;
  }

  status(full: boolean): JournalStatus {
    return {
      streams: this.#streams,
      groups: [...this.#cursors].flatMap(([group, cursors]) =>
        [...cursors].map(([stream, { seq }]) => ({ group, stream, cursor: seq })),
      ),
      usedBytes: this.#usedBytes,
      fileBytes: this.#fileBytes,
      maxBytes: this.#maxBytes,
      work: this.#work,
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
    for (const group of figures.forgotten) this.#cursors.delete(group);
    this.#usedBytes = figures.usedBytes;
    this.#fileBytes = figures.fileBytes;
  }

  #events(): number {
    return [...this.#streams.values()].reduce((sum, status) => sum + keptAfter(status, 0), 0);
  }

  #figures(): Figures {
    return {
      events: this.#events(),
      usedBytes: this.#usedBytes,
      fileBytes: this.#fileBytes,
      maxBytes: this.#maxBytes,
      work: this.#work && `${this.#work.what} ${Math.floor(this.#work.progress * 100)} %`,
      checkedAt: this.#checkedAtMs === null ? null : new Date(this.#checkedAtMs).toISOString(),
      ...this.losses.figures(),
      damagedRanges: this.#damaged.size,
      damaged: [...this.#damaged.values()]
        .map(({ stream, from, to }) => `${stream} ${from}-${to}`)
        .join(", "),
      epoch: this.#identity?.epoch ?? null,
    };
  }
}

/** The last seq known of each stream. */
function namedHeads(heads: ReadonlyMap<string, number>): string {
  return (
    [...heads].map(([stream, head]) => `seq ${head} of ${stream}`).join(", ") || "the beginning"
  );
}

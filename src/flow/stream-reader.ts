/**
 * Reads one stream for one group and keeps the next batch ready: from the plane while the group is near the head,
 * from the journal when it is behind.
 *
 *   journal ── read; nothing more, or the head ──► attach to the plane ──► plane
 *      ▲                                                                     │
 *      └── behind · a hole · the plane failed · the head is further and nothing comes ──┘
 *
 * Where it reads is memory only. `from` of the first batch is the journal's cursor; each batch begins where the
 * one before it ended; the loop makes that durable. A crash costs what was read and not committed: it is read again.
 *
 * Bounds: one batch ready beside the one that is being run, each of `eventsMax` events and about `batchBytesMax`.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import { holesIn, PassedOver } from "./passed-over.ts";
import type { Plane } from "../plane/plane.ts";

/** A batch stops growing here, bytes: 1 MiB parses in some 10 ms on a Pi, so that acknowledgements never wait long. */
const batchBytesMax = 1024 * 1024;
/**
 * How long a reader waits in the plane before it looks at the journal's head itself: what heals a plane that
 * lost its newest part, 2 s, at a cost of nothing.
 */
const idleMs = 2000;
const retryPace = { baseMs: 100, maxMs: 30_000 };

export interface StreamReaderParts {
  readonly context: Context;
  readonly journal: Journal;
  readonly plane: Plane;
  readonly group: string;
  readonly stream: string;
  readonly eventsMax: number;
  /** The longest that a batch waits to fill, ms. */
  readonly waitMs: number;
  /** Called when a batch is ready. */
  readonly onReady: () => void;
}

export interface ReadyBatch {
  readonly stream: string;
  readonly events: readonly StoredEvent[];
  /** The seq before the batch: where the cursor stands once what came before is committed. */
  readonly from: number;
  /** Up to where the cursor may move; past the last event where some were trimmed unread. */
  readonly to: number;
  /** There was more than one batch takes: a backlog. */
  readonly isFull: boolean;
}

export class StreamReader {
  readonly stream: string;
  readonly #parts: StreamReaderParts;
  readonly #passedOver: PassedOver;
  readonly #stopping = new AbortController();
  /** The last seq read. */
  #position = 0;
  /** The last seq of a batch that was offered; from here it is read again after a failure. */
  #offered = 0;
  #isBehind = true;
  #ready: ReadyBatch | undefined;
  #taken: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(parts: StreamReaderParts) {
    this.#parts = parts;
    this.stream = parts.stream;
    this.#passedOver = new PassedOver(
      parts.context,
      () => "Events were trimmed before the processor had read them",
    );
  }

  /** Begins behind the journal's cursor. Ends when it is stopped; rejects when the journal is gone for good. */
  start(): Promise<void> {
    this.#position = this.#parts.journal.cursor(this.#parts.group, this.stream).seq;
    this.#offered = this.#position;
    this.#loop = this.#run();
    return this.#loop;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#taken?.();
    await this.#loop?.catch(() => undefined);
  }

  peek(): ReadyBatch | undefined {
    return this.#ready;
  }

  /** Hands over the batch that is ready; the reading goes on meanwhile. */
  take(): ReadyBatch | undefined {
    const batch = this.#ready;
    this.#ready = undefined;
    this.#taken?.();
    return batch;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      try {
        const batch = await this.#fill();
        failures = 0;
        if (batch !== null) await this.#offer(batch);
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError) || thrown.kind === "fatal") throw thrown;
        // What was read into the batch that failed is read again.
        this.#position = this.#offered;
        this.#isBehind = true;
        failures += 1;
        await this.#pause(thrown, failures);
      }
    }
  }

  #offer(batch: ReadyBatch): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#taken = () => {
        this.#taken = undefined;
        resolve();
      };
      this.#ready = batch;
      this.#offered = batch.to;
      this.#parts.onReady();
    });
  }

  /** The next batch; null when there is nothing yet. */
  async #fill(): Promise<ReadyBatch | null> {
    const { context, eventsMax, waitMs } = this.#parts;
    const from = this.#position;
    const events: StoredEvent[] = [];
    let bytes = 0;
    let untilMs: number | null = null;
    while (events.length < eventsMax && bytes < batchBytesMax) {
      const leftMs: number =
        untilMs === null ? idleMs : Math.max(0, untilMs - context.clock.monotonicMs());
      const wasBehind = this.#isBehind;
      const found = wasBehind
        ? await this.#readJournal(eventsMax - events.length, batchBytesMax - bytes)
        : await this.#readPlane(eventsMax - events.length, leftMs);
      for (const event of found) {
        events.push(event);
        bytes += event.payload.length;
      }
      if (this.#stopping.signal.aborted) return null;
      if (found.length > 0) untilMs ??= context.clock.monotonicMs() + waitMs;
      else if (!wasBehind && !this.#isBehind) break;
      if (untilMs !== null && context.clock.monotonicMs() >= untilMs) break;
      // A jump over what was trimmed is a batch of its own: its cursor must not wait for the next event.
      if (events.length === 0 && this.#position > from && !this.#isBehind) break;
    }
    if (this.#position === from) return null;
    const isFull = events.length >= eventsMax || bytes >= batchBytesMax;
    return { stream: this.stream, events, from, to: this.#position, isFull };
  }

  async #readJournal(eventsMax: number, bytesMax: number): Promise<readonly StoredEvent[]> {
    const { journal, plane, group } = this.#parts;
    const after = this.#position;
    const result = await journal.read(this.stream, after, eventsMax, bytesMax);
    const next = result.events[0]?.seq ?? result.first;
    if (next > after + 1) this.#passedOver.say(this.stream, after + 1, next - 1, next - after - 1);
    const last = result.events.at(-1)?.seq ?? 0;
    this.#passedOver.say(this.stream, next, last, holesIn(result.events));
    this.#position = Math.max(after, next - 1, last);
    if (this.#stopping.signal.aborted) return [];
    if (this.#position >= result.head) {
      await plane.attach(this.stream, group, this.#position);
      this.#isBehind = false;
    } else if (this.#position === after) {
      throw new HoldfastError(
        "JOURNAL_DISK",
        `Nothing to read after seq ${after}: head is ${result.head}`,
      );
    }
    return result.events;
  }

  async #readPlane(eventsMax: number, waitMs: number): Promise<readonly StoredEvent[]> {
    const { journal, plane, group } = this.#parts;
    const found = await plane.read(this.stream, group, eventsMax, waitMs, this.#stopping.signal);
    const head = (): number => journal.status().streams.get(this.stream)?.head ?? 0;
    if (found === "behind" || (found.length === 0 && head() > this.#position)) {
      this.#isBehind = true;
      return [];
    }
    // A plane that lost something between two events is no plane to read from.
    this.#isBehind = found.some(({ seq }, index) => seq !== this.#position + 1 + index);
    if (this.#isBehind) return [];
    this.#position += found.length;
    return found;
  }

  async #pause(thrown: HoldfastError, failures: number): Promise<void> {
    const { context } = this.#parts;
    if (failures === 1) {
      context.log.warn(`Cannot read stream ${this.stream}: it is tried again`, {
        reason: thrown.message,
      });
    }
    const delayMs = backoffDelayMs(retryPace, failures, context.random());
    await context.clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
  }
}

/**
 * What a sink is sent next: a batch of one stream, read while the one before it is being sent.
 *
 * Where fresh events go first there are two lanes. A stream that comes back from an outage is split where it ends at
 * that moment: what comes from then on goes on the live lane, what waited drains on the backlog lane, beside it and with its
 * share (lane-share.ts). Each lane has its own place in each stream; each goes in the order of seq. Else all is one lane.
 *
 * `begin` puts the places back to what was confirmed.
 */
import assert from "node:assert/strict";
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import type { Backlog } from "./backlog.ts";
import { FairOrder } from "./fair-order.ts";
import { LaneShare, type Lane } from "./lane-share.ts";
import { nextOpen, rangesMax, type Position } from "./position.ts";

/**
 * A file's batch costs one fsync, up to 100 ms on an SD card: 2,048 events keep pace with 20,000 a second even there.
 */
export const batchEventsMax = 2048;
/** 2,048 events of 128 bytes; bounds memory where events are large. */
export const batchBytesMax = 256 * 1024;
/** A fresh event waits for a batch of the backlog that is under way and for one that is read already, each this long, ms. */
const backlogBatchMs = 250;
const batchBytesMin = 4 * 1024;
/** What waited no longer than this, ms, is as good as fresh. */
const freshMs = 5_000;

export interface BatchBounds {
  readonly events: number;
  readonly bytes: number;
  /** How long events may wait for company, ms. */
  readonly waitMs: number;
}

export interface Ahead {
  readonly lane: Lane;
  readonly stream: string;
  /** It follows this seq in its lane. */
  readonly after: number;
  /** The last seq that it covers. */
  readonly to: number;
  /** Up to here the journal has nothing any more; null: nothing is missing. */
  readonly trimmedTo: number | null;
  readonly events: readonly StoredEvent[];
}

export interface ReadAheadParts {
  readonly journal: Pick<Journal, "read">;
  readonly clock: Clock;
  readonly backlog: Backlog;
  readonly streams: readonly string[];
  readonly bounds: BatchBounds;
  /** Of the backlog; null: one lane. */
  readonly backlogShare: number | null;
}

const lanes: readonly Lane[] = ["live", "backlog"];

export class ReadAhead {
  readonly #parts: ReadAheadParts;
  readonly #share: LaneShare;
  readonly #orders: Readonly<Record<Lane, FairOrder>>;
  readonly #read: Readonly<Record<Lane, Map<string, number>>> = {
    live: new Map(),
    backlog: new Map(),
  };
  /** Where the backlog ends; a stream that is not named here has one lane. */
  readonly #splits = new Map<string, number>();
  #positions: ReadonlyMap<string, Position> = new Map();
  /** Of the backlog lane: what is under way there delays what is fresh. */
  readonly #backlogBytes: ByteBound;
  /** Of both lanes: a link may be too slow for a whole batch to be answered in time. */
  readonly #bytes: ByteBound;
  /** Since when something waits for company, ms. */
  #waitsSinceMs: number | null = null;

  constructor(parts: ReadAheadParts) {
    this.#parts = parts;
    this.#share = new LaneShare(parts.backlogShare ?? 0.5);
    this.#orders = { live: new FairOrder(parts.streams), backlog: new FairOrder(parts.streams) };
    this.#backlogBytes = new ByteBound(parts.bounds.bytes);
    this.#bytes = new ByteBound(parts.bounds.bytes);
  }

  /** A connection begins: what waited by now is backlog, where it waited long and lanes are asked for. */
  async split(positions: ReadonlyMap<string, Position>): Promise<void> {
    const { journal, clock, backlog, streams, backlogShare } = this.#parts;
    this.#splits.clear();
    for (const stream of backlogShare === null ? [] : streams) {
      const { seq = 0, ranges = [] } = positions.get(stream) ?? {};
      const reached = ranges.at(-1)?.to ?? seq;
      if (ranges.length > 0) this.#splits.set(stream, reached);
      const { events, head } = await journal.read(stream, reached, 1, 1);
      const [oldest] = events;
      backlog.grow(stream, head);
      const isStale = oldest !== undefined && clock.wallMs() - oldest.receivedAt > freshMs;
      if (isStale && ranges.length < rangesMax) this.#splits.set(stream, head);
    }
  }

  /** Goes on behind what is confirmed. */
  begin(positions: ReadonlyMap<string, Position>): void {
    this.#positions = positions;
    for (const stream of this.#parts.streams) {
      const { seq = 0 } = positions.get(stream) ?? {};
      this.#read.live.set(stream, Math.max(seq, this.#splits.get(stream) ?? 0));
      this.#read.backlog.set(stream, seq);
    }
  }

  hasMore(): boolean {
    return lanes.some((lane) => this.#hasSome(lane));
  }

  /** When that which waits for company goes without, ms on the monotone clock; null: nothing waits so. */
  get dueMs(): number | null {
    return this.#waitsSinceMs === null ? null : this.#waitsSinceMs + this.#parts.bounds.waitMs;
  }

  /** Null: nothing to read yet. What a loop can deal with is given back, not thrown: nobody may be waiting yet. */
  async next(): Promise<Ahead | HoldfastError | null> {
    const isDue = this.#isDue();
    const lane = this.#share.choose({
      live: isDue && this.#hasSome("live"),
      backlog: this.#hasSome("backlog"),
    });
    if (lane === null) return null;
    const stream = this.#orders[lane].next((name) => this.#open(lane, name) !== null);
    const open = stream === null ? null : this.#open(lane, stream);
    if (stream === null || open === null) return null;
    try {
      return await this.#readOne(lane, stream, open);
    } catch (error) {
      if (error instanceof HoldfastError) return error;
      throw error;
    }
  }

  /** A batch came to nothing: the next is half as large, until one gets through. */
  failed(): void {
    this.#bytes.halve();
  }

  /** How long a batch took to be sent, and how many bytes it was. */
  sent(lane: Lane, bytes: number, tookMs: number): void {
    this.#bytes.double();
    this.#share.sent(lane, bytes);
    if (lane !== "backlog") return;
    if (tookMs > backlogBatchMs) this.#backlogBytes.halve();
    else if (tookMs < backlogBatchMs / 2) this.#backlogBytes.double();
  }

  async #readOne(
    lane: Lane,
    stream: string,
    { after, to }: { readonly after: number; readonly to: number },
  ): Promise<Ahead> {
    const { journal, backlog, bounds } = this.#parts;
    const most = lane === "backlog" ? this.#backlogBytes.value : bounds.bytes;
    const bytes = Math.ceil(Math.min(most, this.#bytes.value));
    const found = await journal.read(stream, after, bounds.events, bytes);
    backlog.grow(stream, found.head);
    const events = found.events.filter(({ seq }) => seq <= to);
    const next = Math.min(found.events[0]?.seq ?? found.first, to + 1);
    const upTo = events.at(-1)?.seq ?? next - 1;
    assert.ok(
      upTo > after,
      `Journal says that ${stream} goes to ${found.head}, and gives nothing after ${after}`,
    );
    this.#read[lane].set(stream, upTo);
    const trimmedTo = next > after + 1 ? next - 1 : null;
    return { lane, stream, after, to: upTo, events, trimmedTo };
  }

  #isDue(): boolean {
    const { clock, bounds, streams } = this.#parts;
    if (bounds.waitMs === 0) return true;
    if (!this.#hasSome("live")) {
      this.#waitsSinceMs = null;
      return true;
    }
    const now = clock.monotonicMs();
    this.#waitsSinceMs ??= now;
    const unread = streams.reduce((sum, stream) => {
      const open = this.#open("live", stream);
      return open === null ? sum : sum + open.to - open.after;
    }, 0);
    if (unread < bounds.events && now < this.#waitsSinceMs + bounds.waitMs) return false;
    this.#waitsSinceMs = null;
    return true;
  }

  #hasSome(lane: Lane): boolean {
    return this.#parts.streams.some((stream) => this.#open(lane, stream) !== null);
  }

  /** The stretch that a lane goes on with in a stream. */
  #open(lane: Lane, stream: string): ReturnType<typeof nextOpen> {
    const split = this.#splits.get(stream);
    if (lane === "backlog" && split === undefined) return null;
    const bound = lane === "backlog" ? (split ?? 0) : this.#parts.backlog.head(stream);
    const position = this.#positions.get(stream) ?? { seq: 0, ranges: [], mark: null };
    return nextOpen(position, this.#read[lane].get(stream) ?? 0, bound);
  }
}

/** Bytes of a batch, between `batchBytesMin` and what it begins with. */
class ByteBound {
  readonly #max: number;
  value: number;

  constructor(max: number) {
    this.#max = max;
    this.value = max;
  }

  halve(): void {
    this.value = Math.max(batchBytesMin, this.value / 2);
  }

  double(): void {
    this.value = Math.min(this.#max, this.value * 2);
  }
}

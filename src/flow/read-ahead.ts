/**
 * What a sink is sent next: a batch of one stream, read while the one before it is being sent.
 *
 * It keeps, for each stream, up to where it has read; `back` puts that back to what was confirmed.
 */
import assert from "node:assert/strict";
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import type { Backlog } from "./backlog.ts";
import { FairOrder } from "./fair-order.ts";

/**
 * A file's batch costs one fsync, up to 100 ms on an SD card: 2,048 events keep pace with 20,000 a second even
 * there. At the end of an mqtt batch the line stands still for a delayed TCP acknowledgement (40 ms): measured
 * against mosquitto, batches of 512 reach 8,700 events a second, of 2,048 18,000 and more.
 */
export const batchEventsMax = 2048;
/** 2,048 events of 128 bytes; bounds memory where events are large. */
export const batchBytesMax = 256 * 1024;

export interface Ahead {
  readonly stream: string;
  /** Up to here the journal has nothing any more; null: nothing is missing. */
  readonly trimmedTo: number | null;
  readonly events: readonly StoredEvent[];
}

export class ReadAhead {
  readonly #journal: Pick<Journal, "read">;
  readonly #backlog: Backlog;
  readonly #streams: readonly string[];
  readonly #order: FairOrder;
  readonly #read = new Map<string, number>();

  constructor(journal: Pick<Journal, "read">, backlog: Backlog, streams: readonly string[]) {
    this.#journal = journal;
    this.#backlog = backlog;
    this.#streams = streams;
    this.#order = new FairOrder(streams);
  }

  back(stream: string, confirmed: number): void {
    this.#read.set(stream, confirmed);
  }

  hasMore(): boolean {
    return this.#streams.some((stream) => this.#unread(stream) > 0);
  }

  /** Null: nothing to read. What a loop can deal with is given back, not thrown: nobody may be waiting yet. */
  async next(): Promise<Ahead | HoldfastError | null> {
    const stream = this.#order.next((name) => this.#unread(name) > 0);
    if (stream === null) return null;
    const after = this.#read.get(stream) ?? 0;
    try {
      const found = await this.#journal.read(stream, after, batchEventsMax, batchBytesMax);
      const { events, first, head } = found;
      this.#backlog.grow(stream, head);
      const next = events[0]?.seq ?? first;
      const upTo = events.at(-1)?.seq ?? next - 1;
      assert.ok(
        upTo > after,
        `Journal says that ${stream} goes to ${head}, and gives nothing after ${after}`,
      );
      this.#read.set(stream, upTo);
      return { stream, events, trimmedTo: next > after + 1 ? next - 1 : null };
    } catch (error) {
      if (error instanceof HoldfastError) return error;
      throw error;
    }
  }

  #unread(stream: string): number {
    return this.#backlog.head(stream) - (this.#read.get(stream) ?? 0);
  }
}

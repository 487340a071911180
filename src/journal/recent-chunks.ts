/**
 * Chunks that were just read and decoded: a reader that takes 500 of a chunk's 2,000 events comes back for the
 * rest, and two sinks at the head of one stream read the same. Bound: `chunksMax` chunks, each 256 KiB and one event
 * at the most (chunk.ts), so about 5 MiB where all events are as large as may be.
 */
import type { StoredEvent } from "../core/event.ts";
import type { ReadChunk } from "./protocol.ts";
import { decodeSections } from "./section.ts";
import { indexAfter } from "./sparse.ts";

/** One for each of a few streams that are being drained at once; a chunk holds about 256 KiB of payload. */
const chunksMax = 4;

export class RecentChunks {
  readonly #chunks: { stream: string; events: readonly StoredEvent[] }[] = [];

  /**
   * The events after `after`, as far as one kept chunk holds them; none: it must be read. What went since it was kept
   * (it was passed, and space was needed) is still in the chunk: `after` is to be beyond it.
   */
  find(stream: string, after: number): readonly StoredEvent[] {
    for (const chunk of this.#chunks) {
      if (chunk.stream !== stream || after + 1 < (chunk.events[0]?.seq ?? 0)) continue;
      if (after < (chunk.events.at(-1)?.seq ?? 0)) {
        return chunk.events.slice(indexAfter(chunk.events, after));
      }
    }
    return [];
  }

  /** The events after `after` of chunks that were just read, of which the last is kept. */
  decode(stream: string, after: number, chunks: readonly ReadChunk[]): StoredEvent[] {
    const events: StoredEvent[] = [];
    for (const chunk of chunks) {
      const decoded = decodeSections(chunk.body, { stream, ...chunk });
      for (let index = indexAfter(decoded, after); index < decoded.length; index++)
        events.push(decoded[index] as StoredEvent);
      // Times that a sync of the clock may yet put right are read again.
      const isFinal = chunk.clock === "synced" || chunk.bootOffsetMs !== null;
      if (isFinal && chunk === chunks.at(-1)) this.keep(stream, decoded);
    }
    return events;
  }

  keep(stream: string, events: readonly StoredEvent[]): void {
    this.#chunks.unshift({ stream, events });
    if (this.#chunks.length > chunksMax) this.#chunks.pop();
  }

  /** Some of the stream was dropped: what `_gaps` calls lost is not to be handed out afterwards. */
  forget(stream: string): void {
    for (let index = this.#chunks.length - 1; index >= 0; index--) {
      if (this.#chunks[index]?.stream === stream) this.#chunks.splice(index, 1);
    }
  }
}

/** The first of these that fit; at least one. */
export function atMost(
  events: readonly StoredEvent[],
  maxEvents: number,
  maxBytes: number,
): readonly StoredEvent[] {
  let count = 0;
  for (let bytes = 0; count < events.length && count < maxEvents; count++) {
    bytes += events[count]?.payload.length ?? 0;
    if (bytes > maxBytes && count > 0) break;
  }
  return count === events.length ? events : events.slice(0, count);
}

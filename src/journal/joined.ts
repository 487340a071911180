/**
 * Small chunks on their way to the main thread, many at once. One row of SQLite costs 1 to 2 µs and one body that is
 * handed over about 6, whatever they hold. So SQLite itself puts the bytes of neighbours one behind the other, and
 * those of which the same is to be said go on as if they were one chunk: a body may hold many sections.
 *
 * Only what is as it should be is taken: dense chunks that follow each other without a hole, each whole by its own
 * checksum. It ends before the first that is not; that one is for the reader (reader.ts), which looks at one row after
 * the other and tells what is wrong.
 *
 * Bounds: `storedBytesMax` as stored, for one query; what is asked for and one chunk, unpacked. An event that is kept
 * keeps the whole body that it is a view into, so a joined one stays small: `joinedBytesMax`, an eighth of what a chunk
 * may be (section.ts).
 */
import { checkChunk, unpackChunk, type PackedChunk } from "./chunk.ts";
import { chunkId } from "./ledger.ts";
import type { Db } from "./sqlite.ts";

export const joinedBytesMax = 32 * 1024;
/** Some 300 chunks of one event: a query's own 20 µs are lost among them. */
const storedBytesMax = 64 * 1024;

export interface JoinedChunk extends Pick<
  PackedChunk,
  "first" | "count" | "epoch" | "boot" | "clock"
> {
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Where to begin: the first seq of a chunk, and the bytes stored in its stream before it (chunk.total). */
export interface Start {
  readonly stream: number;
  readonly first: number;
  readonly storedBefore: number;
}

export class JoinedReader {
  readonly #total;
  readonly #bodies;

  constructor(db: Db) {
    this.#total = db
      .prepare("SELECT total FROM chunk WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1")
      .pluck();
    // As text, since there is no such function for blobs: SQLite leaves the bytes of text as they are, zeros too.
    this.#bodies = db
      .prepare(
        `SELECT CAST(group_concat(body, '') AS BLOB), group_concat(length(body))
          FROM (SELECT body FROM chunk WHERE id >= ? AND id <= ? ORDER BY id)`,
      )
      .raw();
  }

  /** Chunks from the start on that begin no later than `upTo`; none where the first is not as it should be. */
  read(start: Start, upTo: number, maxBytes: number): JoinedChunk[] {
    return joinChunks(this.#whole(start, upTo, maxBytes));
  }

  #whole({ stream, first, storedBefore }: Start, upTo: number, maxBytes: number): PackedChunk[] {
    const chunks: PackedChunk[] = [];
    let [next, before, bytes] = [first, storedBefore, 0];
    while (next <= upTo && bytes < maxBytes) {
      const end = this.#end(stream, next, upTo, before);
      if (end === null) break;
      before = end.total;
      for (const body of this.#bodiesOf(stream, next, end.seq)) {
        const chunk = checkChunk(body);
        const isFit = chunk !== null && !chunk.isSparse && chunk.count > 0 && chunk.first === next;
        if (!isFit || bytes >= maxBytes) return chunks;
        chunks.push(chunk);
        next += chunk.count;
        bytes += chunk.rawBytes;
      }
    }
    return chunks;
  }

  /** As far as one query goes, and the bytes stored up to there; null: nothing there, or the next chunk is too large. */
  #end(stream: number, next: number, upTo: number, storedBefore: number) {
    for (let seq = upTo; ;) {
      const total = this.#total.get(chunkId(stream, next), chunkId(stream, seq)) as
        | number
        | undefined;
      if (total === undefined) return null;
      const stored = total - storedBefore;
      if (stored <= storedBytesMax) return { seq, total };
      if (seq === next) return null;
      seq = next + Math.floor(((seq - next) * storedBytesMax) / stored);
    }
  }

  *#bodiesOf(stream: number, from: number, to: number): Iterable<Buffer> {
    const ids = [chunkId(stream, from), chunkId(stream, to)];
    const [bodies, lengths] = this.#bodies.get(...ids) as [Buffer, string];
    let at = 0;
    for (const length of lengths.split(",")) yield bodies.subarray(at, (at += Number(length)));
  }
}

/** The same events in the same order, in fewer chunks; up to one that does not unpack. */
export function joinChunks(chunks: readonly PackedChunk[]): JoinedChunk[] {
  const joined: JoinedChunk[] = [];
  for (let begin = 0; begin < chunks.length;) {
    const end = runEnd(chunks, begin);
    const one = oneOf(chunks.slice(begin, end));
    if (one === null) break;
    joined.push(one);
    begin = end;
  }
  return joined;
}

/** Behind the last chunk that goes with the one at `begin`. */
function runEnd(chunks: readonly PackedChunk[], begin: number): number {
  const first = chunks[begin] as PackedChunk;
  let bytes = 0;
  for (let index = begin; index < chunks.length; index++) {
    const { epoch, boot, clock, rawBytes } = chunks[index] as PackedChunk;
    bytes += rawBytes;
    const isSame = epoch === first.epoch && boot === first.boot && clock === first.clock;
    if (index > begin && (!isSame || bytes > joinedBytesMax)) return index;
  }
  return chunks.length;
}

/** A body that its own header fits and that does not unpack: none of the run is taken. */
function oneOf(run: readonly PackedChunk[]): JoinedChunk | null {
  const { first, epoch, boot, clock } = run[0] as PackedChunk;
  // The body goes to the other thread: it needs an ArrayBuffer that is its own.
  const body = new Uint8Array(run.reduce((sum, chunk) => sum + chunk.rawBytes, 0));
  let [at, count] = [0, 0];
  try {
    for (const chunk of run) {
      unpackChunk(chunk, body, at);
      at += chunk.rawBytes;
      count += chunk.count;
    }
  } catch {
    return null;
  }
  return { first, count, epoch, boot, clock, body };
}

/** Reading the file: chunks from any cursor, and the small tables. */
import type { ClockQuality, Headers } from "../core/event.ts";
import { endedBelow } from "../core/expiring.ts";
import { openChunk, type ChunkHead } from "./chunk.ts";
import { JoinedReader } from "./joined.ts";
import type { Epochs } from "./epochs.ts";
import type {
  Damage,
  DeadLetter,
  PacketIdentifier,
  RetryRow,
  StateEntry,
  StateSpace,
} from "./journal.ts";
import { chunkId, seqMask, type Ledger, type StreamRecord } from "./ledger.ts";
import type { ReadChunk, Requests } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

/** As arrays: to make objects of the rows took a third of a small chunk's time. */
type At = readonly [first: number, last: number, storedBefore: number];
type Row = readonly [first: number, last: number, body: Buffer];

export class JournalReader {
  readonly #ledger: Ledger;
  readonly #order: Epochs;
  readonly #joined: JoinedReader;
  readonly #at;
  readonly #from;
  readonly #epochs;
  readonly #offsets;
  readonly #state;
  readonly #states;
  readonly #spaces;
  readonly #ended;
  readonly #retries;
  readonly #letters;
  readonly #packets;
  readonly #uuids = new Map<number, string>();

  constructor(db: Db, ledger: Ledger, epochs: Epochs) {
    this.#ledger = ledger;
    this.#order = epochs;
    this.#joined = new JoinedReader(db);
    this.#at = db
      .prepare(
        `SELECT id & ${seqMask}, last, total - size FROM chunk
          WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1`,
      )
      .raw();
    this.#from = db
      .prepare(`SELECT id & ${seqMask}, last, body FROM chunk WHERE id >= ? AND id < ? ORDER BY id`)
      .raw();
    this.#epochs = db.prepare("SELECT uuid FROM epoch WHERE ordinal = ?").pluck();
    this.#offsets = db.prepare("SELECT offset_ms FROM boot WHERE ordinal = ?").pluck();
    this.#state = db.prepare("SELECT value FROM state WHERE space = ? AND key = ?").pluck();
    this.#states = db.prepare(
      "SELECT key, value FROM state WHERE space = ? AND key > ? ORDER BY key LIMIT ?",
    );
    this.#ended = db
      .prepare("SELECT key FROM state WHERE space = ? AND value >= x'01' AND value < ? LIMIT ?")
      .pluck();
    this.#spaces = db.prepare(
      `SELECT space, count(*) AS keys, sum(length(CAST(key AS BLOB)) + length(value)) AS bytes
        FROM state GROUP BY space ORDER BY space`,
    );
    this.#retries = db.prepare("SELECT * FROM retry WHERE group_name = ? ORDER BY stream, seq");
    this.#letters = db.prepare(
      "SELECT * FROM dead_letter WHERE stream = ? AND id > ? ORDER BY id LIMIT ?",
    );
    this.#packets = db.prepare("SELECT source, id, digest FROM packet_id WHERE source = ?");
  }

  /**
   * Whole chunks from the one that holds `after` + 1, up to one that is damaged. Where the first is damaged its
   * range is told, and `first` lies behind it, as if it had been trimmed: a reader passes it, at the head as well.
   */
  read(ask: Requests["read"]["ask"]): Requests["read"]["answer"] {
    const { stream, after, maxEvents, maxBytes } = ask;
    const record = this.#ledger.known(stream);
    if (record === undefined) return { chunks: [], first: 1, head: 0, damaged: [] };
    const { id, first, head, thinned } = record;
    // A clock that was put right since the last page is: asked for once a boot and page.
    const offsets = new Map<number, number | null>();
    const at = this.#at.get(chunkId(id, 0), chunkId(id, after + 1)) as At | undefined;
    const isAmid = at !== undefined && at[1] > after;
    if (isAmid && at[0] > thinned) {
      const start = { stream: id, first: at[0], storedBefore: at[2] };
      const joined = this.#joined.read(start, Math.min(after + maxEvents, head), maxBytes);
      const chunks = joined.map(({ body, ...about }) =>
        this.#chunk(stream, { ...about, seqs: null }, body, offsets),
      );
      if (chunks.length > 0) return { chunks, first, head, damaged: [] };
    }
    return this.#readEach(ask, record, isAmid ? at[0] : after + 1, offsets);
  }

  /** One row after the other from `from` on, and what is wrong with them. */
  #readEach(
    { stream, after, maxEvents, maxBytes }: Requests["read"]["ask"],
    record: StreamRecord,
    from: number,
    offsets: Map<number, number | null>,
  ): Requests["read"]["answer"] {
    const { id, head } = record;
    let { first } = record;
    const chunks: ReadChunk[] = [];
    const damaged: Damage[] = [];
    let [events, bytes] = [0, 0];
    let expected = after + 1;
    const rows = this.#from.iterate(chunkId(id, from), chunkId(id + 1, 0)) as Iterable<Row>;
    for (const [chunkFirst, last, body] of rows) {
      // Behind what was thinned seqs are dense: a hole is a chunk that the tree does not lead to any more.
      if (chunkFirst > expected && expected > Math.max(record.thinned, record.first - 1)) {
        damaged.push({ stream, from: expected, to: chunkFirst - 1 });
      }
      expected = last + 1;
      const opened = openChunk(body);
      if (opened === null || opened.head.first !== chunkFirst) {
        if (chunks.length > 0) break;
        damaged.push({ stream, from: chunkFirst, to: last });
        first = last + 1;
        continue;
      }
      chunks.push(this.#chunk(stream, opened.head, opened.body, offsets));
      events += Math.min(opened.head.count, last - Math.max(after, chunkFirst - 1));
      bytes += opened.body.length;
      if (events >= maxEvents || bytes >= maxBytes) break;
    }
    if (chunks.length === 0 && expected <= head) {
      damaged.push({ stream, from: expected, to: head });
      first = head + 1;
    }
    return { chunks, first, head, damaged };
  }

  #chunk(
    stream: string,
    { first, count, seqs, epoch, boot, clock }: ChunkHead,
    body: Uint8Array<ArrayBuffer>,
    offsets: Map<number, number | null>,
  ): ReadChunk {
    const bootOffsetMs = this.#offset(boot, offsets);
    const last = seqs?.at(-1) ?? first + count - 1;
    const starts = this.#order.later(stream, { ordinal: epoch, last });
    const later =
      starts?.map(({ from, ordinal }) => ({ from, epoch: this.#epoch(ordinal) })) ?? null;
    return { first, count, seqs, epoch: this.#epoch(epoch), later, clock, bootOffsetMs, body };
  }

  /** An epoch's row never changes; one entry for each epoch that is met, and a journal has a few. */
  #epoch(ordinal: number): string {
    let uuid = this.#uuids.get(ordinal);
    if (uuid === undefined) {
      uuid = (this.#epochs.get(ordinal) as string | undefined) ?? "";
      this.#uuids.set(ordinal, uuid);
    }
    return uuid;
  }

  #offset(boot: number, known: Map<number, number | null>): number | null {
    let offsetMs = known.get(boot);
    if (offsetMs === undefined) {
      offsetMs = (this.#offsets.get(boot) as number | null | undefined) ?? null;
      known.set(boot, offsetMs);
    }
    return offsetMs;
  }

  state(space: string, key: string): Uint8Array | null {
    return (this.#state.get(space, key) as Uint8Array | undefined) ?? null;
  }

  retries(group: string): RetryRow[] {
    return (this.#retries.all(group) as RawRetry[]).map((row) => ({
      event: {
        stream: row.stream,
        seq: row.seq,
        epoch: row.epoch,
        clock: row.clock,
        key: row.key,
        time: row.time,
        receivedAt: row.received_at,
        headers: JSON.parse(row.headers) as Headers,
        payload: row.payload,
      },
      attempts: row.attempts,
      dueAt: row.due_at,
      firstFailedAt: row.first_failed_at,
      error: row.error,
    }));
  }

  states({ space, after, limit }: Requests["states"]["ask"]): StateEntry[] {
    return this.#states.all(space, after ?? "", limit) as StateEntry[];
  }

  endedStates({ space, nowMs, limit }: Requests["endedStates"]["ask"]): string[] {
    return this.#ended.all(space, endedBelow(nowMs), limit) as string[];
  }

  /** Reads through all that is kept: asked for now and then. */
  stateSpaces(): StateSpace[] {
    return this.#spaces.all() as StateSpace[];
  }

  deadLetters({ stream, limit, after }: Requests["deadLetters"]["ask"]): DeadLetter[] {
    return (this.#letters.all(stream, after, limit) as RawLetter[]).map((row) => ({
      id: row.id,
      stream: row.stream,
      seq: row.seq,
      origin: row.origin,
      originName: row.origin_name,
      code: row.code,
      reason: row.reason,
      attempts: row.attempts,
      firstFailedAt: row.first_failed_at,
      lastFailedAt: row.last_failed_at,
      key: row.key,
      time: row.time,
      headers: JSON.parse(row.headers) as Headers,
      payload: row.payload,
    }));
  }

  packetIds(source: string): PacketIdentifier[] {
    return this.#packets.all(source) as PacketIdentifier[];
  }
}

interface RawRetry {
  readonly stream: string;
  readonly seq: number;
  readonly attempts: number;
  readonly due_at: number;
  readonly first_failed_at: number;
  readonly error: string;
  readonly epoch: string;
  readonly clock: ClockQuality;
  readonly key: string | null;
  readonly time: number;
  readonly received_at: number;
  readonly headers: string;
  readonly payload: Uint8Array;
}

interface RawLetter {
  readonly id: number;
  readonly stream: string;
  readonly seq: number | null;
  readonly origin: DeadLetter["origin"];
  readonly origin_name: string;
  readonly code: string;
  readonly reason: string;
  readonly attempts: number;
  readonly first_failed_at: number;
  readonly last_failed_at: number;
  readonly key: string | null;
  readonly time: number;
  readonly headers: string;
  readonly payload: Uint8Array;
}

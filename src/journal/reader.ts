/** Reading the file: chunks from any cursor, and the small tables. */
import type { ClockQuality, Headers } from "../core/event.ts";
import { joinChunks } from "./joined.ts";
import { openChunk } from "./chunk.ts";
import type { Damage, DeadLetter, PacketIdentifier, RetryRow } from "./journal.ts";
import { chunkId, seqMask, type Ledger } from "./ledger.ts";
import type { ReadChunk, Requests } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

/** As arrays: to make objects of the rows took a third of a small chunk's time. */
type Ends = readonly [first: number, last: number];
type Row = readonly [...Ends, boot: number, body: Buffer];
const ends = `id & ${seqMask}, last`;

export class JournalReader {
  readonly #ledger: Ledger;
  readonly #at;
  readonly #from;
  readonly #epochs;
  readonly #offsets;
  readonly #state;
  readonly #retries;
  readonly #letters;
  readonly #packets;
  readonly #uuids = new Map<number, string>();

  constructor(db: Db, ledger: Ledger) {
    this.#ledger = ledger;
    this.#at = db
      .prepare(`SELECT ${ends} FROM chunk WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1`)
      .raw();
    this.#from = db
      .prepare(`SELECT ${ends}, boot, body FROM chunk WHERE id >= ? AND id < ? ORDER BY id`)
      .raw();
    this.#epochs = db.prepare("SELECT uuid FROM epoch WHERE ordinal = ?").pluck();
    this.#offsets = db.prepare("SELECT offset_ms FROM boot WHERE ordinal = ?").pluck();
    this.#state = db.prepare("SELECT value FROM state WHERE space = ? AND key = ?").pluck();
    this.#retries = db.prepare("SELECT * FROM retry WHERE group_name = ? ORDER BY stream, seq");
    this.#letters = db.prepare("SELECT * FROM dead_letter WHERE stream = ? ORDER BY id LIMIT ?");
    this.#packets = db.prepare("SELECT source, id, digest FROM packet_id WHERE source = ?");
  }

  /**
   * Whole chunks from the one that holds `after` + 1, up to one that is damaged. Where the first is damaged its
   * range is told, and `first` lies behind it, as if it had been trimmed: a reader passes it, at the head as well.
   */
  read({
    stream,
    after,
    maxEvents,
    maxBytes,
  }: Requests["read"]["ask"]): Requests["read"]["answer"] {
    const record = this.#ledger.known(stream);
    const chunks: ReadChunk[] = [];
    const damaged: Damage[] = [];
    if (record === undefined) return { chunks, first: 1, head: 0, damaged };
    const { id, head } = record;
    let { first } = record;
    const end = chunkId(id + 1, 0);
    const at = this.#at.get(chunkId(id, 0), chunkId(id, after + 1)) as Ends | undefined;
    const isAmid = at !== undefined && at[1] > after;
    // A clock that was put right since the last page is: asked for once a boot and page.
    const offsets = new Map<number, number | null>();
    let [events, bytes] = [0, 0];
    let expected = after + 1;
    const from = isAmid ? chunkId(id, at[0]) : chunkId(id, after + 1);
    for (const [chunkFirst, last, boot, body] of this.#from.iterate(from, end) as Iterable<Row>) {
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
      const { count, seqs, epoch, clock } = opened.head;
      chunks.push({
        first: chunkFirst,
        count,
        seqs,
        epoch: this.#epoch(epoch),
        clock,
        bootOffsetMs: this.#offset(boot, offsets),
        body: opened.body,
      });
      events += Math.min(count, last - Math.max(after, chunkFirst - 1));
      bytes += opened.body.length;
      if (events >= maxEvents || bytes >= maxBytes) break;
    }
    if (chunks.length === 0 && expected <= head) {
      damaged.push({ stream, from: expected, to: head });
      first = head + 1;
    }
    return { chunks: joinChunks(chunks), first, head, damaged };
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

  deadLetters(stream: string, limit: number): DeadLetter[] {
    return (this.#letters.all(stream, limit) as RawLetter[]).map((row) => ({
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

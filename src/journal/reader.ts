/** Reading the file: chunks from any cursor, and the small tables. */
import type { ClockQuality, Headers } from "../core/event.ts";
import { openChunk } from "./chunk.ts";
import type { DeadLetter, PacketIdentifier, RetryRow } from "./journal.ts";
import { chunkColumns, chunkId, type ChunkRow, type Ledger } from "./ledger.ts";
import type { Damage, ReadChunk, Requests } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

type FullRow = ChunkRow & { readonly body: Buffer };

export class JournalReader {
  readonly #ledger: Ledger;
  readonly #at;
  readonly #next;
  readonly #epochs;
  readonly #offsets;
  readonly #state;
  readonly #retries;
  readonly #letters;
  readonly #packets;

  constructor(db: Db, ledger: Ledger) {
    this.#ledger = ledger;
    const columns = `${chunkColumns}, body`;
    this.#at = db.prepare(
      `SELECT ${columns} FROM chunk WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1`,
    );
    this.#next = db.prepare(
      `SELECT ${columns} FROM chunk WHERE id > ? AND id < ? ORDER BY id LIMIT 1`,
    );
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
    let row = this.#at.get(chunkId(id, 0), chunkId(id, after + 1)) as FullRow | undefined;
    if (row === undefined || row.last <= after) {
      row = this.#next.get(chunkId(id, after + 1), end) as FullRow | undefined;
    }
    let [events, bytes] = [0, 0];
    while (row !== undefined && events < maxEvents && bytes < maxBytes) {
      const opened = openChunk(row.body);
      if (opened === null || opened.head.first !== row.first) {
        if (chunks.length > 0) break;
        damaged.push({ stream, from: row.first, to: row.last });
        first = row.last + 1;
      } else {
        const { count, seqs, epoch, clock } = opened.head;
        chunks.push({
          first: row.first,
          count,
          seqs,
          epoch: (this.#epochs.get(epoch) as string | undefined) ?? "",
          clock,
          bootOffsetMs: (this.#offsets.get(row.boot) as number | null | undefined) ?? null,
          body: opened.body,
        });
        events += Math.min(count, row.last - Math.max(after, row.first - 1));
        bytes += opened.body.length;
      }
      row = this.#next.get(chunkId(id, row.last), end) as FullRow | undefined;
    }
    return { chunks, first, head, damaged };
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

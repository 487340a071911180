/**
 * Reads the whole journal through between turns: each row by its key, each chunk against its checksum, each stream
 * for holes. A row that cannot be read condemns the file (SQLite says so, and it is salvaged); a chunk that is not
 * what was written is told with its range. A start after a crash does it by itself, slowly; `journal check` at once.
 *
 * Bounds: one slice in memory (walk.ts), one number a stream, `rangesMax` ranges.
 */
import { spaceOf } from "./compaction.ts";
import { openChunk } from "./chunk.ts";
import { DamagedFile } from "./damaged-file.ts";
import type { CheckResult, Damage } from "./journal.ts";
import { seqMask, streamOf, type StreamRecord } from "./ledger.ts";
import type { Store } from "./store.ts";
import { Walk, type WalkedRow } from "./walk.ts";

/** A file that SQLite's own check reads within the time of a few turns; in a larger one rows are all that is read. */
const quickCheckBytes = 16 * 1024 * 1024;
/** Kept in `#damage`; more are counted in the last. */
const rangesMax = 1_000;

export class Checkup {
  readonly #store: Store;
  readonly #pause: () => Promise<void>;
  readonly #walk: Walk;
  readonly #wholeBytes: number;
  readonly #expected = new Map<number, number>();
  readonly #damaged: Damage[] = [];
  #stream = -1;
  #isBegun = false;
  #events = 0;
  #chunks = 0;
  #bytes = 0;

  /** `pause`: between slices, for the sake of others. */
  constructor(store: Store, pause: () => Promise<void>) {
    this.#store = store;
    this.#pause = pause;
    this.#walk = new Walk(store.db);
    const { fileBytes, freeBytes } = spaceOf(store.db);
    this.#wholeBytes = Math.max(1, fileBytes - freeBytes);
  }

  /** Reads one slice; gives back the share that is done, or null when all is. @throws what condemns the file */
  slice(): number | null {
    if (!this.#isBegun) this.#quickCheck();
    this.#isBegun = true;
    const bytes = this.#walk.slice((table, row) => {
      if (table === "chunk") this.#chunk(row);
    });
    // In the slice that came to the end of the chunks: after the next turn there may be more of them.
    if (this.#stream >= 0 && this.#walk.isPast("chunk")) {
      this.#leave();
      this.#stream = -1;
    }
    this.#bytes += bytes ?? 0;
    return bytes === null ? null : Math.min(0.99, this.#bytes / this.#wholeBytes);
  }

  settle(): Promise<void> {
    return this.#pause();
  }

  finish(): CheckResult {
    if (this.#damaged.length > 0) this.#store.damages.note(this.#damaged);
    return {
      events: this.#events,
      chunks: this.#chunks,
      bytes: this.#bytes,
      damaged: this.#damaged,
    };
  }

  abandon(): void {}

  /** sqlite.org/pragma.html, quick_check: trees and the list of free pages. */
  #quickCheck(): void {
    const { db } = this.#store;
    if (spaceOf(db).fileBytes > quickCheckBytes) return;
    const found = String(db.pragma("quick_check(1)", { simple: true }));
    if (found !== "ok") throw new DamagedFile(db.name, found);
  }

  #chunk(row: WalkedRow): void {
    const id = row[0] as bigint;
    const number = streamOf(id);
    if (number !== this.#stream) this.#leave();
    this.#stream = number;
    const record = this.#record(number);
    if (record === undefined) return;
    const [first, last] = [Number(id & BigInt(seqMask)), Number(row[1])];
    const expected = Math.max(this.#expected.get(number) ?? 0, record.first);
    // Behind what was thinned seqs are dense: a hole is a chunk that the tree does not lead to any more.
    if (first > expected && expected > record.thinned) this.#damage(record, expected, first - 1);
    this.#expected.set(number, last + 1);
    const opened = openChunk(row[8] as Buffer);
    this.#chunks += 1;
    if (opened?.head.first === first) this.#events += opened.head.count;
    else this.#damage(record, first, last);
  }

  /** A stream's last chunk was read: it ends where its head is. */
  #leave(): void {
    const record = this.#record(this.#stream);
    if (record === undefined) return;
    const expected = Math.max(this.#expected.get(this.#stream) ?? 0, record.first);
    if (expected <= record.head) this.#damage(record, expected, record.head);
  }

  #damage({ name }: StreamRecord, from: number, to: number): void {
    const before = this.#damaged.at(-1);
    const isNext = before?.stream === name && before.to + 1 === from;
    if (before !== undefined && (isNext || this.#damaged.length >= rangesMax)) {
      this.#damaged[this.#damaged.length - 1] = { ...before, to: Math.max(before.to, to) };
    } else this.#damaged.push({ stream: name, from, to });
  }

  #record(number: number): StreamRecord | undefined {
    const { ledger } = this.#store;
    return ledger
      .names()
      .map((name) => ledger.known(name))
      .find((record) => record?.id === number);
  }
}

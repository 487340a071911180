/**
 * What can be read of a damaged file goes into the new journal, with its seqs.
 *
 *   what intake needs (`begin`) ──► tables that grow ──► the chunks' places, from the tree or page by page
 *     ──► chunks, in order ──► `finish`
 *
 * `begin` takes the few rows that intake needs, found without a schema where every file of ours has them; only where
 * those rows' own pages are broken is the whole file read through before. Then intake goes on (waiting.ts).
 *
 * Each step is short, and its transaction is its own: turns come in between. Begun again after a crash it writes the
 * same rows once more over those that are there; that the work is done is one row, written with its last step.
 * Chunks are believed by their checksums alone. Memory: one page, one chunk, and one entry a stream.
 */
import { randomUUID } from "node:crypto";
import { openChunk } from "./chunk.ts";
import { chunkId, seqMask, streamOf } from "./ledger.ts";
import { TreePage, type Row, type Value } from "./page-rows.ts";
import type { Damage } from "./journal.ts";
import { fits, SalvagePages, tableOf, type Found } from "./salvage-pages.ts";
import type { Db, Statement } from "./sqlite.ts";

/** As they lie on disk: a primary key's columns first where there is no rowid. */
const columns: Readonly<Record<string, readonly string[]>> = {
  meta: ["name", "value"],
  epoch: ["ordinal", "uuid", "parent", "reason", "began", "board"],
  boot: ["ordinal", "uuid", "offset_ms"],
  stream: ["id", "name", "head", "total"],
  cursor: ["group_name", "stream", "seq", "mark"],
  state: ["space", "key", "value"],
  retry:
    "group_name stream seq attempts due_at first_failed_at error epoch clock key time received_at headers payload".split(
      " ",
    ),
  dead_letter:
    "id stream seq origin origin_name code reason attempts first_failed_at last_failed_at key time headers payload".split(
      " ",
    ),
  packet_id: ["source", "id", "digest"],
  gap: ["stream", "reason", "from_seq", "to_seq", "kept"],
  sparse: ["id", "count", "size"],
};
/** Without these nothing can be taken in: who the device is, which ordinals and identifiers are used. All are small. */
const neededFirst = ["meta", "epoch", "boot", "stream", "cursor", "packet_id", "gap"];
const growing = Object.keys(columns).filter((table) => !neededFirst.includes(table));
/** What a step reads or writes, so that a turn waits for it no longer than for another turn. */
const pagesPerStep = 512;
const bytesPerStep = 1024 * 1024;
/** Ordinals of epochs and boots that cannot be read are below those that are given from now on. */
export const lostOrdinals = 1_000;

interface Place {
  readonly id: bigint;
  readonly page: bigint;
  readonly cell: bigint;
}

interface StreamEnd {
  last: number;
  total: number;
}

export class Salvage {
  readonly #db: Db;
  readonly #pages: SalvagePages;
  readonly #putPlace;
  readonly #ends = new Map<number, StreamEnd>();
  readonly #damaged: { stream: number; from: number; to: number }[] = [];
  readonly #failed = new Set<number>();
  /** Those that have a row: a few in a journal's life. */
  readonly #epochs = new Set<number>();
  readonly #puts = new Map<string, Statement>();
  #isScanned = false;
  /** Of the work, 0 to 1. */
  progress = 0;

  constructor(db: Db, damagedPath: string) {
    this.#db = db;
    this.#pages = new SalvagePages(damagedPath);
    db.exec(
      "CREATE TABLE IF NOT EXISTS salvage_chunk (id INTEGER, page INTEGER, cell INTEGER, PRIMARY KEY (id, page, cell)) WITHOUT ROWID",
    );
    this.#putPlace = db.prepare("INSERT OR IGNORE INTO salvage_chunk VALUES (?, ?, ?)");
  }

  /** What intake needs. Where one of these trees is not whole, the file is read through once before. */
  begin(): { lostOrdinals: boolean } {
    this.#db.transaction(() => {
      for (const table of neededFirst)
        for (const found of this.#pages.table(table)) this.#takeSmall(found, table);
    })();
    const { broken } = this.#pages;
    if (neededFirst.some((table) => broken.has(table))) {
      for (const _step of this.#takeGrowing()) continue;
      for (const _step of this.#findPlaces()) continue;
      this.#isScanned = true;
    }
    return { lostOrdinals: broken.has("epoch") || broken.has("boot") };
  }

  /** The rest, step by step. */
  *steps(): Generator<void> {
    if (!this.#isScanned) {
      yield* this.#takeGrowing();
      yield* this.#findPlaces();
    }
    yield* this.#copyChunks();
  }

  *#takeGrowing(): Generator<void> {
    for (const table of growing) {
      const found = this.#pages.table(table);
      yield* this.#inSteps(found, (each) => this.#takeSmall(each, table));
    }
    this.progress = 0.1;
  }

  /** A transaction for each step; `take` gives back the bytes that it took. */
  *#inSteps<Each>(all: Iterable<Each>, take: (each: Each) => number): Generator<void> {
    let [pages, bytes] = [0, 0];
    this.#db.exec("BEGIN");
    try {
      for (const each of all) {
        pages += 1;
        bytes += take(each);
        if (pages < pagesPerStep && bytes < bytesPerStep) continue;
        this.#db.exec("COMMIT");
        [pages, bytes] = [0, 0];
        yield;
        this.#db.exec("BEGIN");
      }
    } finally {
      if (this.#db.inTransaction) this.#db.exec("COMMIT");
    }
  }

  close(): void {
    this.#pages.file.close();
  }

  *#findPlaces(): Generator<void> {
    const pages = this.#pages;
    yield* this.#inSteps(pages.table("chunk"), ({ page, tree }) => {
      for (let cell = 0; cell < tree.cells; cell++)
        this.#putPlace.run(tree.rowid(cell), page, cell);
      return 0;
    });
    if (pages.broken.size > 0) {
      yield* this.#inSteps(pages.others(), (found) => (found === null ? 0 : this.#takeAny(found)));
    }
    this.progress = 0.4;
  }

  #takeSmall({ tree }: Found, table: string): number {
    let bytes = 0;
    for (let cell = 0; cell < tree.cells; cell++) {
      const row = tree.row(cell, this.#pages.file);
      if (row !== null && fits(table, row)) bytes += this.#put(table, row);
      else this.#pages.broken.add(table);
    }
    return bytes;
  }

  /** A page that no tree led to. */
  #takeAny({ page, tree }: Found): number {
    let bytes = 0;
    for (let cell = 0; cell < tree.cells; cell++) {
      const row = tree.row(cell, this.#pages.file);
      const table = row === null ? null : tableOf(row);
      if (row === null || table === null) continue;
      if (table === "chunk") this.#putPlace.run(row.rowid, page, cell);
      // An index's entries look like identifiers without a digest.
      else if (table === "packet_id" && row.values.length < 3) continue;
      else if (this.#pages.broken.has(table)) bytes += this.#put(table, row);
    }
    return bytes;
  }

  /** Gives back the bytes of its texts and blobs. */
  #put(table: string, { rowid, values }: Row): number {
    const names = (columns[table] ?? []).slice(0, values.length);
    const bound: (Value | bigint)[] = values.map((value, index) =>
      index === 0 && rowid !== null ? rowid : value,
    );
    // How and where this file is open is its own affair.
    if (table === "meta" && /^(open-|salvage)/.test(String(values[0]))) return 0;
    try {
      this.#putOf(table, names).run(...bound);
    } catch {
      this.#pages.broken.add(table);
    }
    return values.reduce<number>(
      (sum, value) =>
        sum + (typeof value === "string" || Buffer.isBuffer(value) ? value.length : 0),
      0,
    );
  }

  /** One for each table and each number of columns that a version of it had. */
  #putOf(table: string, names: readonly string[]): Statement {
    const name = `${table} ${names.length}`;
    let put = this.#puts.get(name);
    if (put === undefined) {
      const conflict =
        table === "cursor"
          ? "UPDATE SET seq = excluded.seq, mark = excluded.mark WHERE excluded.seq > seq"
          : "NOTHING";
      put = this.#db.prepare(
        `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})
          ON CONFLICT DO ${conflict}`,
      );
      this.#puts.set(name, put);
    }
    return put;
  }

  *#copyChunks(): Generator<void> {
    const db = this.#db;
    const all = Math.max(
      1,
      db.prepare("SELECT count(*) FROM salvage_chunk").pluck().get() as number,
    );
    const next = db.prepare<[bigint, bigint, bigint], Place>(
      "SELECT * FROM salvage_chunk WHERE (id, page, cell) > (?, ?, ?) ORDER BY id, page, cell LIMIT 64",
    );
    next.safeIntegers(true);
    const put = db.prepare("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    let [after, done]: [Place, number] = [{ id: -(2n ** 62n), page: 0n, cell: 0n }, 0];
    for (;;) {
      const places = next.all(after.id, after.page, after.cell);
      if (places.length === 0) return;
      let bytes = 0;
      db.exec("BEGIN");
      for (const place of places) {
        after = place;
        done += 1;
        const values = this.#chunkAt(place);
        if (values !== null) put.run(...values);
        bytes += (values?.at(-1) as Buffer | undefined)?.length ?? 0;
        if (bytes >= bytesPerStep) break;
      }
      db.exec("COMMIT");
      this.progress = 0.4 + (0.6 * done) / all;
      yield;
    }
  }

  /** The row for the new file; null where it is not whole, or there already. */
  #chunkAt({ id, page, cell }: Place): (Value | bigint)[] | null {
    const number = Number(page);
    const { file } = this.#pages;
    const row = TreePage.of(file.page(number), number)?.row(Number(cell), file) ?? null;
    const stream = streamOf(id);
    const body = row?.values[8];
    const opened = Buffer.isBuffer(body) ? (openChunk(body)?.head ?? null) : null;
    if (row === null || row.rowid !== id || opened === null || !Buffer.isBuffer(body)) {
      this.#failed.add(stream);
      return null;
    }
    const { first, count, seqs, epoch, boot, clock } = opened;
    const [, last, made, total, , at] = row.values as number[];
    const end = seqs === null ? first + count - 1 : Number(last);
    if (id !== chunkId(stream, first) || end < (seqs?.at(-1) ?? first)) {
      this.#failed.add(stream);
      return null;
    }
    const before = this.#ends.get(stream);
    if (before !== undefined && first <= before.last) return null;
    this.#noteHole(stream, before, first, Number(total) - body.length, seqs !== null);
    const base = before?.total ?? Math.max(0, Number(total) - body.length);
    this.#ends.set(stream, { last: end, total: base + body.length });
    this.#nameEpoch(epoch);
    const synced = clock === "synced" ? 1 : 0;
    return [id, end, made ?? 0, base + body.length, body.length, at ?? 0, synced, boot, body];
  }

  #noteHole(
    stream: number,
    before: StreamEnd | undefined,
    first: number,
    bytesBefore: number,
    isSparse: boolean,
  ): void {
    const from = (before?.last ?? 0) + 1;
    if (from >= first) return;
    const isBroken = this.#pages.broken.has("chunk") || this.#failed.has(stream);
    // Before the first there may have been trimmed; that took nothing where nothing was ever stored.
    if (before === undefined && (!isBroken || bytesBefore <= 0)) return;
    if (isSparse && !isBroken) return;
    this.#damaged.push({ stream, from, to: first - 1 });
  }

  #nameEpoch(ordinal: number): void {
    if (this.#epochs.has(ordinal)) return;
    this.#epochs.add(ordinal);
    this.#db
      .prepare("INSERT OR IGNORE INTO epoch VALUES (?, ?, NULL, 'lost to damage', 0, NULL)")
      .run(ordinal, randomUUID());
  }

  /** Sets the streams' ends and ends the work, in one transaction. Gives back what is missing. */
  finish(note: (lost: readonly Damage[]) => void): {
    lost: Damage[];
    heads: ReadonlyMap<string, number>;
  } {
    const db = this.#db;
    return db.transaction(() => {
      for (const id of this.#ends.keys())
        db.prepare("INSERT OR IGNORE INTO stream (id, name) VALUES (?, ?)").run(
          id,
          `salvaged-${id}`,
        );
      const streams = db.prepare("SELECT id, name, head, total FROM stream").all() as {
        id: number;
        name: string;
        head: number;
        total: number;
      }[];
      const lost: Damage[] = [];
      const heads = new Map<string, number>();
      for (const { id, name, head, total } of streams) {
        const end = this.#ends.get(id);
        const known = Math.max(head, end?.last ?? 0, this.#passed(name));
        const isBroken = this.#pages.broken.size > 0 || this.#failed.has(id);
        for (const { stream, from, to } of this.#damaged) {
          if (stream === id) lost.push({ stream: name, from, to });
        }
        if (known > (end?.last ?? 0) && (end !== undefined || isBroken))
          lost.push({ stream: name, from: (end?.last ?? 0) + 1, to: known });
        heads.set(name, known);
        db.prepare("UPDATE stream SET head = ?, total = ? WHERE id = ?").run(
          known,
          Math.max(total, end?.total ?? 0),
          id,
        );
      }
      db.exec("DROP TABLE salvage_chunk; DELETE FROM meta WHERE name LIKE 'salvag%'");
      note(lost);
      return { lost, heads };
    })();
  }

  /** The last seq of a stream that something else knows of: it must not be given again. */
  #passed(stream: string): number {
    return this.#db
      .prepare(
        `SELECT max(coalesce((SELECT max(seq) FROM cursor WHERE stream = @stream), 0),
          coalesce((SELECT max(seq) FROM retry WHERE stream = @stream), 0),
          coalesce((SELECT max(to_seq) FROM gap WHERE stream = @stream), 0)) & ${seqMask}`,
      )
      .pluck()
      .get({ stream }) as number;
  }
}

/**
 * Gives back the space that the file holds and does not use, while it is served: everything is copied into a new
 * file in slices between turns, which then takes the old one's place.
 *
 *   slices (what turns change behind them is noted, and copied again) ──► `complete`: the rest in one go, synced
 *     ──► the old file is closed, with its log gone ──► `takePlace`: one rename
 *
 * What a crash leaves: before the rename the old file, whole, and a copy that the next start removes; after it the
 * new one, whole. A write-ahead log belongs to whatever file has its name: the old one's must be gone for good
 * before the new file takes the place, hence the sync of the folder in between.
 *
 * Wear: each byte is written once, since a copy that a crash may spoil needs no log. Room: as much as is in use.
 * Bounds: one slice in memory (walk.ts), and the keys that turns change between two slices.
 */
import {
  existsSync,
  fsyncSync,
  openSync,
  closeSync,
  renameSync,
  rmSync,
  statfsSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { HoldfastError } from "../core/errors.ts";
import { formatSize } from "../core/quantity.ts";
import { syncFolder } from "./damaged-file.ts";
import { openDatabase, pageBytesOf, type Db } from "./sqlite.ts";
import { largeTableNames, largeTables, Walk, type LargeTable, type WalkedRow } from "./walk.ts";

/** Written behind the kernel's back at most, so that no sync is long: what a card takes in half a second. */
const syncEveryBytes = 4 * 1024 * 1024;
/** What is left free beside the copy, for the log and for others. */
const marginBytes = 16 * 1024 * 1024;
/** Less than this share of the file is not worth writing all the rest. */
const worthShare = 1 / 20;

export function compactPathOf(path: string): string {
  return `${path}.compact`;
}

/** A copy that a crash has left. */
export function forgetCopy(path: string): void {
  for (const end of ["", "-wal", "-journal"]) rmSync(compactPathOf(path) + end, { force: true });
}

/** Bytes of the file, and of those the ones that hold nothing. */
export function spaceOf(db: Db): { fileBytes: number; freeBytes: number } {
  const pageBytes = pageBytesOf(db);
  const pages = db.pragma("page_count", { simple: true }) as number;
  const free = db.pragma("freelist_count", { simple: true }) as number;
  return { fileBytes: pages * pageBytes, freeBytes: free * pageBytes };
}

/** False: there is little to give back. */
export function isWorthIt({ fileBytes, freeBytes }: ReturnType<typeof spaceOf>): boolean {
  return freeBytes > fileBytes * worthShare;
}

export class Compaction {
  readonly #path: string;
  readonly #from: Db;
  readonly #to: Db;
  readonly #walk: Walk;
  readonly #put = new Map<string, (row: WalkedRow) => void>();
  readonly #changed = new Map<LargeTable, () => WalkedRow[]>();
  readonly #usedBytes: number;
  #copiedBytes = 0;
  #unsyncedBytes = 0;
  #isOver = false;

  /** @throws HoldfastError JOURNAL_FULL: the disk has no room for the copy */
  constructor(db: Db, path: string, maxBytes: number) {
    const { fileBytes, freeBytes } = spaceOf(db);
    this.#usedBytes = fileBytes - freeBytes;
    this.#path = path;
    this.#from = db;
    forgetCopy(path);
    this.#needRoom(this.#usedBytes + marginBytes);
    this.#to = openDatabase({ path: compactPathOf(path), synchronous: "OFF", maxBytes });
    this.#to.pragma("journal_mode = OFF");
    this.#walk = new Walk(db);
    for (const table of largeTableNames) this.#watch(table);
  }

  #needRoom(bytes: number): void {
    const folder = dirname(resolve(this.#path));
    const { bavail, bsize } = statfsSync(folder);
    if (bavail * bsize >= bytes) return;
    throw new HoldfastError(
      "JOURNAL_FULL",
      `Cannot compact the journal: its copy needs ${formatSize(bytes)}, and ${formatSize(bavail * bsize)} are free under ${folder}`,
    );
  }

  /** What a turn changes is known by its key; a turn that is rolled back has changed nothing here either. */
  #watch(table: LargeTable): void {
    const keys = largeTables[table];
    const list = keys.join(", ");
    this.#from.exec(
      `CREATE TEMP TABLE changed_${table} (${list}, PRIMARY KEY (${list})) WITHOUT ROWID`,
    );
    for (const [event, row] of [
      ["INSERT", "new"],
      ["UPDATE", "new"],
      ["DELETE", "old"],
    ] as const) {
      this.#from.exec(
        `CREATE TEMP TRIGGER changed_${table}_${event} AFTER ${event} ON main.${table} BEGIN
          INSERT OR IGNORE INTO changed_${table} VALUES (${keys.map((key) => `${row}.${key}`).join(", ")}); END`,
      );
    }
    const changed = this.#from.prepare(`SELECT * FROM changed_${table}`).safeIntegers().raw();
    this.#changed.set(table, () => changed.all() as WalkedRow[]);
  }

  /** Copies one slice; gives back the share that is done, or null when only `complete` is left. */
  slice(): number | null {
    this.#to.exec("BEGIN");
    this.#again();
    const bytes = this.#walk.slice((table, row) => this.#copy(table, row));
    this.#to.exec("COMMIT");
    if (bytes === null) return null;
    this.#copiedBytes += bytes;
    this.#unsyncedBytes += bytes;
    return Math.min(0.99, this.#copiedBytes / Math.max(1, this.#usedBytes));
  }

  /** Waits for the disk where enough was written; turns go on meanwhile. */
  async settle(): Promise<void> {
    if (this.#unsyncedBytes < syncEveryBytes) return;
    this.#unsyncedBytes = 0;
    const file = await open(compactPathOf(this.#path), "r");
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /** Copies what is left. Then the copy is whole, on disk and closed, and says that it was closed in order. */
  complete(): void {
    const to = this.#to;
    to.exec("BEGIN");
    this.#again();
    for (const table of this.#smallTables()) {
      to.exec(`DELETE FROM ${table}`);
      const rows = this.#from.prepare(`SELECT * FROM ${table}`).safeIntegers(true).raw();
      for (const row of rows.iterate() as Iterable<WalkedRow>) this.#copy(table, row);
    }
    to.prepare("UPDATE meta SET value = '' WHERE name = 'open-in-boot'").run();
    to.exec("COMMIT");
    to.pragma("journal_mode = WAL");
    this.#isOver = true;
    to.close();
    const file = openSync(compactPathOf(this.#path), "r");
    try {
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  /** The old file is left as it was; its changes are watched no more. */
  abandon(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const table of this.#changed.keys()) {
      try {
        this.#from.exec(`DROP TABLE temp.changed_${table}`);
        for (const event of ["INSERT", "UPDATE", "DELETE"])
          this.#from.exec(`DROP TRIGGER temp.changed_${table}_${event}`);
      } catch {
        // The file was closed: they went with it.
      }
    }
    try {
      this.#to.close();
    } finally {
      forgetCopy(this.#path);
    }
  }

  /** The rows that turns have changed since. */
  #again(): void {
    for (const [table, changed] of this.#changed) {
      const keys: readonly string[] = largeTables[table];
      const where = keys.map((key) => `${key} = ?`).join(" AND ");
      const rows = changed();
      if (rows.length === 0) continue;
      const remove = this.#to.prepare(`DELETE FROM ${table} WHERE ${where}`);
      const find = this.#from.prepare(`SELECT * FROM ${table} WHERE ${where}`).safeIntegers().raw();
      for (const key of rows) {
        remove.run(...key);
        const row = find.get(...key) as WalkedRow | undefined;
        if (row !== undefined) this.#copy(table, row);
      }
      this.#from.exec(`DELETE FROM temp.changed_${table}`);
    }
  }

  #copy(table: string, row: WalkedRow): void {
    let put = this.#put.get(table);
    if (put === undefined) {
      const into = this.#to.prepare(
        `INSERT OR REPLACE INTO ${table} VALUES (${row.map(() => "?").join(", ")})`,
      );
      put = (values) => into.run(...values);
      this.#put.set(table, put);
    }
    put(row);
  }

  #smallTables(): string[] {
    const tables = this.#from
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
      .pluck()
      .all() as string[];
    return tables.filter((name) => !(name in largeTables));
  }
}

/** After the old file was closed in order: the copy is the journal. */
export function takePlace(path: string): void {
  const folder = dirname(resolve(path));
  if (existsSync(`${path}-wal`)) {
    forgetCopy(path);
    throw new HoldfastError(
      "JOURNAL_DISK",
      "Cannot compact the journal: its log cannot be emptied",
    );
  }
  // The old log's name is off the disk before the new file has the old one's name.
  syncFolder(folder);
  renameSync(compactPathOf(path), path);
  syncFolder(folder);
}

/**
 * The only door to better-sqlite3: opening the file safely, its settings, its tables.
 *
 * Settings and why (sqlite.org/pragma.html, sqlite.org/wal.html):
 * - locking_mode EXCLUSIVE before WAL: a second agent is refused, and no shared-memory file is needed
 * - synchronous FULL: the WAL is synced at each commit; better-sqlite3's default, NORMAL, loses commits at a power
 *   cut. NORMAL only under `durability: crash`
 * - cache_size −512: 512 KiB instead of the package's 16 MiB; one commit touches a few pages
 * - wal_autocheckpoint and journal_size_limit 4 MiB: 16 only put the same writes off (test/bench/results.md)
 * - max_page_count: SQLite itself refuses to grow past `maxBytes` (SQLITE_FULL)
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  rmSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import Database from "better-sqlite3";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { damageOf, DamagedFile, headOf, syncFolder } from "./damaged-file.ts";

export type Db = Database.Database;
export type Statement = Database.Statement;

/** "HFJ1": tells our files from other programs' (sqlite.org/fileformat.html, offset 68). */
const applicationId = 0x48464a31;
/**
 * Of a new file; an older one keeps its own (`pageBytesOf`). A commit writes each page that it touches into the WAL,
 * behind 24 bytes, and the kernel's 4 KiB pages below that once or twice: 10 events a commit cost 11.7 bytes to disk
 * for each of payload with pages of 4,096, 9.5 with 2,048, 8.3 with 1,024, 7.9 with 512 (`npm run bench -- wear`);
 * 256 a commit 1.09 and 0.57. Speed is the same, reading long chunks a little slower.
 */
const newPageBytes = 1024;
/** SQLite moves the WAL into the database at this size, and keeps no more of it on the card. */
const walBytes = 4 * 1024 * 1024;
/** Enough of a file to find the schema in it, whose text tells our files from others when their header does not. */
const headBytes = 64 * 1024;
const schemaMark =
  "CREATE TABLE chunk (id INTEGER PRIMARY KEY, last INTEGER NOT NULL, made INTEGER";
/** No program ever has that many versions: a number beyond it is a flipped bit. */
const versionMax = 1_000;
/** better-sqlite3 13 crashes, instead of throwing, on a Node whose Node-API is older. */
const nodeApiMin = 10;

/**
 * Each entry takes the file from the version of its index to the next. A released entry is never changed.
 * chunk.id is (stream << 40) + first seq: one b-tree without an index, since each further b-tree costs a 4 KiB
 * page in each commit. `total` counts a stream's stored bytes from its beginning, so that what is kept is a
 * difference of two rows and nothing is scanned at the start. The blob stands last: the columns before it are
 * read without it.
 */
const migrations = [
  `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE epoch (ordinal INTEGER PRIMARY KEY, uuid TEXT NOT NULL, parent TEXT, reason TEXT NOT NULL,
    began INTEGER NOT NULL, board TEXT);
  CREATE TABLE boot (ordinal INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, offset_ms REAL);
  CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, head INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE chunk (id INTEGER PRIMARY KEY, last INTEGER NOT NULL, made INTEGER NOT NULL,
    total INTEGER NOT NULL, size INTEGER NOT NULL, at INTEGER NOT NULL, synced INTEGER NOT NULL,
    boot INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE TABLE cursor (group_name TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, mark TEXT,
    PRIMARY KEY (group_name, stream)) WITHOUT ROWID;
  CREATE TABLE state (space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
  CREATE TABLE retry (group_name TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL, due_at INTEGER NOT NULL, first_failed_at INTEGER NOT NULL, error TEXT NOT NULL,
    epoch TEXT NOT NULL, clock TEXT NOT NULL, key TEXT, time INTEGER NOT NULL, received_at INTEGER NOT NULL,
    headers TEXT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (group_name, stream, seq)) WITHOUT ROWID;
  CREATE TABLE dead_letter (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, seq INTEGER,
    origin TEXT NOT NULL, origin_name TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
    attempts INTEGER NOT NULL, first_failed_at INTEGER NOT NULL, last_failed_at INTEGER NOT NULL, key TEXT,
    time INTEGER NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL);
  CREATE INDEX dead_letter_by_stream ON dead_letter (stream, id);
  CREATE TABLE packet_id (source TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (source, id)) WITHOUT ROWID;
  CREATE TABLE gap (stream TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (stream, reason)) WITHOUT ROWID;
  `,
  // digest: CRC-32 of what the identifier's message carried, to tell a repetition from an identifier in use twice.
  // waiting: what was taken in during a salvage (waiting.ts); damage: what is known to be gone (damages.ts).
  // sparse: the chunks that thinning left (thinning.ts), by chunk.id, and how many events each holds; kept: of a gap.
  `
  ALTER TABLE packet_id ADD COLUMN digest INTEGER;
  CREATE TABLE sparse (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, size INTEGER NOT NULL);
  ALTER TABLE gap ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
  CREATE TABLE waiting (id INTEGER PRIMARY KEY, boot TEXT NOT NULL, clock TEXT NOT NULL, body BLOB NOT NULL);
  CREATE TABLE damage (stream TEXT NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (stream, from_seq)) WITHOUT ROWID;
  `,
];

export interface OpenOptions {
  readonly path: string;
  readonly synchronous: "FULL" | "NORMAL" | "OFF";
  readonly maxBytes: number;
  /** A planted fault. */
  readonly leavesFolders?: boolean;
}

/** @throws HoldfastError JOURNAL_FOREIGN, JOURNAL_LOCKED, JOURNAL_UNAVAILABLE; DamagedFile */
export function openDatabase(options: OpenOptions): Db {
  const { path } = options;
  if (Number(process.versions.napi) < nodeApiMin) {
    throw new HoldfastError(
      "JOURNAL_UNAVAILABLE",
      `Cannot load the journal's database: Node ${process.versions.node} is too old, 24 is needed`,
    );
  }
  const isNew = !existsSync(path);
  const folder = resolve(dirname(path));
  let db: Db | undefined;
  try {
    if (isNew) mkdirSync(folder, { recursive: true, mode: 0o700 });
    else refuseStrangers(path);
    db = new Database(path, { timeout: 1000 });
    db.pragma("locking_mode = EXCLUSIVE");
    db.pragma(`page_size = ${newPageBytes}`);
    db.pragma("journal_mode = WAL");
    db.pragma(`synchronous = ${options.synchronous}`);
    db.pragma("cache_size = -512");
    db.pragma("temp_store = MEMORY");
    const pageBytes = pageBytesOf(db);
    db.pragma(`wal_autocheckpoint = ${walBytes / pageBytes}`);
    db.pragma(`journal_size_limit = ${walBytes}`);
    db.pragma(`max_page_count = ${Math.max(64, Math.floor(options.maxBytes / pageBytes))}`);
    migrate(db, path);
    checkTables(db);
    // SQLite syncs the folder of a new WAL, not that of a new database, and knows nothing of new folders. Those that
    // are there may have been made by one who was killed before this line.
    if (options.leavesFolders !== true) syncWay(folder);
    return db;
  } catch (error) {
    db?.close();
    throw translate(error, path);
  }
}

/** A folder and those above it, as far as they may be opened: those that may not were not made by us. */
function syncWay(folder: string): void {
  syncFolder(folder);
  for (let above = dirname(folder); above !== dirname(above); above = dirname(above)) {
    try {
      syncFolder(above);
    } catch {
      return;
    }
  }
}

/** A file of another program or of a newer version is told apart by its first bytes, before SQLite touches it. */
export function refuseStrangers(path: string): void {
  const head = headOf(path, headBytes);
  const damage = damageOf(path, head);
  if (damage !== null) throw new DamagedFile(path, damage);
  // Made, and never written: whoever made it was cut off before anything was promised.
  if (head.length === 0) return;
  const isDatabase = head.toString("latin1", 0, 16) === "SQLite format 3\0";
  const application = head.readUInt32BE(68);
  if (isDatabase && application === applicationId) {
    refuseFuture(head.readUInt32BE(60), path);
    return;
  }
  // A file whose maker was killed before its first commit.
  if (isDatabase && application === 0 && head.readUInt32BE(28) <= 1) return;
  const isOurs =
    (!isDatabase && application === applicationId) ||
    head.includes(schemaMark) ||
    walSaysOurs(path);
  if (isOurs) throw new DamagedFile(path, "its header is damaged");
  if (isDatabase && application === 0) return;
  throw new HoldfastError(
    "JOURNAL_FOREIGN",
    `Cannot open journal ${path}: it is another program's file, move it away or name another journal.path`,
  );
}

/** A young journal has its schema in the log alone. */
function walSaysOurs(path: string): boolean {
  const wal = `${path}-wal`;
  return existsSync(wal) && headOf(wal, headBytes).includes(schemaMark);
}

function refuseFuture(version: number, path: string): void {
  if (version <= migrations.length) return;
  if (version > versionMax) throw new DamagedFile(path, `its header names version ${version}`);
  const backup = backupPathOf(path, migrations.length);
  const before = existsSync(backup) ? `, or go back to ${backup}, which was kept` : "";
  throw new HoldfastError(
    "JOURNAL_FOREIGN",
    `Cannot open journal ${path}: file is from version ${version}, this program knows ${migrations.length}; install the program that made it${before}`,
  );
}

function migrate(db: Db, path: string): void {
  const application = db.pragma("application_id", { simple: true }) as number;
  const version = db.pragma("user_version", { simple: true }) as number;
  const tables = db.prepare("SELECT count(*) FROM sqlite_master").pluck().get() as number;
  if (application !== applicationId && (tables > 0 || application !== 0)) {
    throw new HoldfastError(
      "JOURNAL_FOREIGN",
      `Cannot open journal ${path}: it is another program's file`,
    );
  }
  refuseFuture(version, path);
  if (version === migrations.length) return forgetBackups(db, path);
  if (version > 0) backUp(db, path, version);
  db.transaction(() => {
    for (const step of migrations.slice(version)) db.exec(step);
    db.pragma(`application_id = ${applicationId}`);
    db.pragma(`user_version = ${migrations.length}`);
  })();
}

export function backupPathOf(path: string, version: number): string {
  return `${path}.backup-v${version}`;
}

/** The file as the version before wrote it, whole and on disk before anything is changed. */
function backUp(db: Db, path: string, version: number): void {
  // Not TRUNCATE: who was killed here would leave a file that is open and has no log, as if that were lost.
  db.pragma("wal_checkpoint(PASSIVE)");
  const backup = backupPathOf(path, version);
  copyFileSync(path, backup, constants.COPYFILE_FICLONE);
  const handle = openSync(backup, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  syncFolder(dirname(resolve(path)));
}

/** One backup a version, until the first start after a clean end of the new one. */
function forgetBackups(db: Db, path: string): void {
  if (openInBoot(db) !== "") return;
  for (let version = 1; version < migrations.length; version++)
    rmSync(backupPathOf(path, version), { force: true });
}

/**
 * What a start can afford: the schema, the small tables, and both ends of the large ones; the ends of each stream are
 * read by the ledger. 2 GiB would take minutes on a card: damage between is met when it is read.
 */
function checkTables(db: Db): void {
  for (const table of ["meta", "epoch", "boot", "stream", "cursor", "packet_id", "gap", "damage"])
    db.prepare(`SELECT * FROM ${table}`).all();
  for (const [table, key] of [
    ["chunk", "id"],
    ["dead_letter", "id"],
    ["sparse", "id"],
    ["waiting", "id"],
    ["state", "space, key"],
    ["retry", "group_name, stream, seq"],
  ] as const) {
    db.prepare(`SELECT * FROM ${table} ORDER BY ${key} LIMIT 1`).all();
    const backwards = key.replaceAll(/\w+/g, (column) => `${column} DESC`);
    db.prepare(`SELECT * FROM ${table} ORDER BY ${backwards} LIMIT 1`).all();
  }
}

function translate(error: unknown, path: string): HoldfastError | DamagedFile {
  if (error instanceof HoldfastError || error instanceof DamagedFile) return error;
  if (isDamage(error)) return new DamagedFile(path, messageOf(error));
  const code = sqliteCode(error);
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return new HoldfastError(
      "JOURNAL_LOCKED",
      `Cannot open journal ${path}: another process has it open`,
      {
        cause: error,
      },
    );
  }
  return new HoldfastError(
    "JOURNAL_UNAVAILABLE",
    `Cannot open journal ${path}: ${messageOf(error)}`,
    {
      cause: error,
    },
  );
}

/** SQLite's extended result code (sqlite.org/rescode.html), or "". */
export function sqliteCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** The boot that has the file open, or had when it crashed; "": it was closed in order; undefined: never opened. */
export function openInBoot(db: Db): string | undefined {
  const value = db.prepare("SELECT value FROM meta WHERE name = 'open-in-boot'").pluck().get();
  return value as string | undefined;
}

export function pageBytesOf(db: Db): number {
  return db.pragma("page_size", { simple: true }) as number;
}

/** No room: in the file's quota, or on the disk. */
export function isFull(error: unknown): boolean {
  return sqliteCode(error).startsWith("SQLITE_FULL");
}

/** SQLite found what it never wrote, or tables that are ours are not there. */
export function isDamage(error: unknown): boolean {
  if (error instanceof DamagedFile) return true;
  const code = sqliteCode(error);
  if (code === "SQLITE_ERROR") return /no such (table|column)|malformed/.test(messageOf(error));
  return /^SQLITE_(CORRUPT|NOTADB|FORMAT)/.test(code) || code.startsWith("SQLITE_IOERR_SHORT_READ");
}

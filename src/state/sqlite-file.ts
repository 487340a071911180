/**
 * The file behind SqliteStore, as its thread sees it: better-sqlite3 is synchronous, and so is all of this.
 *
 * Several processes of a host share it. A write begins with BEGIN IMMEDIATE, so that what it checks is what it changes
 * (https://www.sqlite.org/lang_transaction.html); waiting for the others is this thread's time, nobody else's.
 *
 * Bounds: `rangesMax` ranges of a scope between two compactions, further commits are refused until one came;
 * `scopesMax` scopes, the longest unused go; each commit sweeps `sweepMax` values whose end has come.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import Database from "better-sqlite3";
import { systemClock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { pack, unpack } from "./packed-fields.ts";
import { before, blobOf, idNumber, numberOf, passed, union, type IdRange } from "./positions.ts";
import { rangesMax, scopesMax } from "./scope-positions.ts";
import type { GroupProgress, OutboxRow, WorkerCommit, WorkerUnit } from "./state.ts";

export interface SqliteFileOptions {
  readonly path: string;
  /** `power-loss`: each commit is synced; `crash`: it outlives the process, not the power. */
  readonly durability: "power-loss" | "crash";
}

/** `hfst`: says whose file it is (https://www.sqlite.org/pragma.html#pragma_application_id). */
const applicationId = 0x68667374;
const version = 1;
const sweepMax = 20;
/** How long another process's commit is waited for, ms: a few fsyncs of a slow card. */
const busyMs = 5_000;
/** Where SQLite doesn't wait for it itself. */
const lookEveryMs = 5;
/** Node-API of Node 22.14 and later; better-sqlite3 13 crashes on less instead of saying so. */
const nodeApiMin = 10;

const nextUse = "(SELECT coalesce(max(used), 0) + 1 FROM scope)";

const schema = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (space TEXT, key TEXT, value BLOB NOT NULL, expires_at INTEGER, PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE INDEX expiry ON state (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE scope (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, used INTEGER NOT NULL, origin INTEGER, bound BLOB);
CREATE TABLE range (scope INTEGER, first BLOB, last BLOB NOT NULL, PRIMARY KEY (scope, first)) WITHOUT ROWID;
CREATE TABLE outbox (n INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, fields BLOB NOT NULL);
`;

export class SqliteFile {
  readonly id: string;
  readonly #db: Database.Database;
  readonly #statements = new Map<string, Database.Statement>();
  /** Ranges added by this process since the last compaction, by scope. */
  readonly #added = new Map<number, number>();

  /** @throws HoldfastError STATE_UNAVAILABLE, STATE_FOREIGN */
  constructor({ path, durability }: SqliteFileOptions) {
    if (Number(process.versions.napi) < nodeApiMin) {
      const why = `Cannot open ${path}: this Node (${process.version}) is too old, 22.14 or later is needed`;
      throw new HoldfastError("STATE_FOREIGN", why);
    }
    let db: Database.Database | undefined;
    try {
      mkdirSync(dirname(path), { recursive: true });
      db = new Database(path, { timeout: busyMs });
      this.#db = db;
      db.pragma(`synchronous = ${durability === "power-loss" ? "FULL" : "NORMAL"}`);
      db.pragma("cache_size = -1024");
      db.pragma("journal_size_limit = 4194304");
      patient(() => {
        this.#prepareFile(path);
        this.#db.pragma("journal_mode = WAL");
      });
      this.id = this.#text("SELECT value FROM meta WHERE name = 'id'");
    } catch (thrown) {
      db?.close();
      throw translate(thrown, path);
    }
  }

  close(): void {
    this.#db.close();
  }

  /** The file's own words for what went wrong. */
  translated(thrown: unknown): HoldfastError {
    return translate(thrown, this.#db.name);
  }

  get(space: string, key: string, nowMs: number): Uint8Array | null {
    const row = this.#statement(
      "SELECT value, expires_at FROM state WHERE space = ? AND key = ?",
    ).get(space, key) as { value: Buffer; expires_at: number | null } | undefined;
    if (row === undefined || (row.expires_at !== null && row.expires_at <= nowMs)) return null;
    return row.value;
  }

  /** Several units in one transaction, one fsync; one that is refused leaves the others alone. */
  commitAll(units: readonly WorkerUnit[], nowMs: number): WorkerCommit[] {
    return this.#inOne(() => {
      const results = units.map((unit) => this.#commit(unit, nowMs));
      this.#sweep(nowMs);
      return results;
    });
  }

  isDone(scope: string, ids: readonly string[]): Set<string> {
    const at = this.#findScope(scope);
    return new Set(at === null ? [] : this.#passed(at, ids));
  }

  readOutbox(after: number, max: number): OutboxRow[] {
    const rows = this.#statement(
      "SELECT n, topic, fields FROM outbox WHERE n > ? ORDER BY n LIMIT ?",
    ).all(after, max) as { n: number; topic: string; fields: Buffer }[];
    return rows.map(({ n, topic, fields }) => ({ n, topic, fields: unpack(fields) }));
  }

  releaseOutbox(n: number): void {
    this.#inOne(() => this.#statement("DELETE FROM outbox WHERE n <= ?").run(n));
  }

  compact(scope: string, progress: GroupProgress): void {
    this.#inOne(() => {
      const at = this.#scope(scope);
      this.#replace(at, union([...this.#ranges(at), ...passed(progress)]));
      this.#statement(`UPDATE scope SET used = ${nextUse} WHERE id = ?`).run(at);
      this.#added.set(at, 0);
    });
  }

  rewind(scope: string, from: string, next: string): void {
    this.#inOne(() => {
      const [at, to] = [this.#scope(scope), this.#scope(next)];
      const link = this.#statement("UPDATE scope SET origin = ?, bound = ? WHERE id = ?");
      // What `scope` itself goes back to becomes its own: the chain has one link.
      const above = this.#origin(at);
      if (above !== null) {
        const inherited = before(this.#ranges(above.scope), above.bound);
        this.#replace(at, union([...this.#ranges(at), ...inherited]));
        link.run(null, null, at);
      }
      link.run(at, blobOf(idNumber(from)), to);
    });
  }

  #commit(unit: WorkerUnit, nowMs: number): WorkerCommit {
    const at = this.#scope(unit.scope);
    const ids = this.#passed(at, unit.done);
    if (ids.length > 0) return { result: "repeated", ids };
    for (const { space, key, value } of unit.reads) {
      const now = this.get(space, key, nowMs);
      const isSame =
        value === null || now === null ? value === now : Buffer.compare(value, now) === 0;
      if (!isSame) return { result: "conflict" };
    }
    const added = (this.#added.get(at) ?? 0) + unit.done.length;
    if (added > rangesMax) {
      const why = `More than ${rangesMax} positions of ${unit.scope} could not be folded: too many entries are pending`;
      throw new HoldfastError("STATE_UNAVAILABLE", why);
    }
    this.#added.set(at, added);
    const mark = this.#statement("INSERT INTO range (scope, first, last) VALUES (?, ?, ?)");
    for (const id of unit.done) {
      const blob = blobOf(idNumber(id));
      mark.run(at, blob, blob);
    }
    const put = this.#statement(
      "INSERT INTO state (space, key, value, expires_at) VALUES (?, ?, ?, ?) ON CONFLICT (space, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
    );
    const remove = this.#statement("DELETE FROM state WHERE space = ? AND key = ?");
    for (const { space, key, value, expiresAt } of unit.writes) {
      if (value === null) remove.run(space, key);
      else put.run(space, key, value, expiresAt ?? null);
    }
    const emit = this.#statement("INSERT INTO outbox (topic, fields) VALUES (?, ?)");
    for (const { topic, fields } of unit.emits) emit.run(topic, pack(fields));
    return { result: "committed" };
  }

  #sweep(nowMs: number): void {
    this.#statement(
      "DELETE FROM state WHERE (space, key) IN (SELECT space, key FROM state WHERE expires_at <= ? LIMIT ?)",
    ).run(Math.floor(nowMs), sweepMax);
  }

  /** Which of these were dealt with, here or before the replay that began this scope. */
  #passed(scope: number, ids: readonly string[]): string[] {
    const origin = this.#origin(scope);
    return ids.filter((text) => {
      const id = idNumber(text);
      if (this.#holds(scope, id)) return true;
      return origin !== null && id < origin.bound && this.#holds(origin.scope, id);
    });
  }

  #origin(scope: number): { readonly scope: number; readonly bound: bigint } | null {
    const row = this.#statement(
      "SELECT origin, bound FROM scope WHERE id = ? AND origin IS NOT NULL",
    ).get(scope) as { origin: number; bound: Buffer } | undefined;
    return row === undefined ? null : { scope: row.origin, bound: numberOf(row.bound) };
  }

  #holds(scope: number, id: bigint): boolean {
    const row = this.#statement(
      "SELECT last FROM range WHERE scope = ? AND first <= ? ORDER BY first DESC LIMIT 1",
    ).get(scope, blobOf(id)) as { last: Buffer } | undefined;
    return row !== undefined && numberOf(row.last) >= id;
  }

  #ranges(scope: number): IdRange[] {
    const rows = this.#statement("SELECT first, last FROM range WHERE scope = ?").all(scope) as {
      first: Buffer;
      last: Buffer;
    }[];
    return rows.map(({ first, last }) => ({ first: numberOf(first), last: numberOf(last) }));
  }

  #replace(scope: number, ranges: readonly IdRange[]): void {
    this.#statement("DELETE FROM range WHERE scope = ?").run(scope);
    const insert = this.#statement("INSERT INTO range (scope, first, last) VALUES (?, ?, ?)");
    for (const { first, last } of ranges) insert.run(scope, blobOf(first), blobOf(last));
  }

  #findScope(name: string): number | null {
    const row = this.#statement("SELECT id FROM scope WHERE name = ?").get(name) as
      | { id: number }
      | undefined;
    return row?.id ?? null;
  }

  /** Its number, made where there is none; of too many those go that were not compacted for the longest. */
  #scope(name: string): number {
    const found = this.#findScope(name);
    if (found !== null) return found;
    const { lastInsertRowid } = this.#statement(
      `INSERT INTO scope (name, used) VALUES (?, ${nextUse})`,
    ).run(name);
    const old = "SELECT id FROM scope ORDER BY used DESC LIMIT -1 OFFSET ?";
    this.#statement(`DELETE FROM range WHERE scope IN (${old})`).run(scopesMax);
    this.#statement(`DELETE FROM scope WHERE id IN (${old})`).run(scopesMax);
    return Number(lastInsertRowid);
  }

  /** Seen and made in one write: another process that makes the file meanwhile is waited for, not met half-way. */
  #prepareFile(path: string): void {
    this.#inOne(() => {
      const found = this.#db.pragma("application_id", { simple: true }) as number;
      const known = this.#db.pragma("user_version", { simple: true }) as number;
      const isEmpty = this.#db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined;
      if (!isEmpty && (found !== applicationId || known > version)) {
        const why =
          found === applicationId
            ? `it is from format ${known}, this program knows ${version}`
            : "it is another program's";
        throw new HoldfastError("STATE_FOREIGN", `Cannot use ${path} for state: ${why}`);
      }
      if (!isEmpty) return;
      this.#db.exec(schema);
      this.#db.prepare("INSERT INTO meta (name, value) VALUES ('id', ?)").run(crypto.randomUUID());
      this.#db.pragma(`application_id = ${applicationId}`);
      this.#db.pragma(`user_version = ${version}`);
    });
  }

  #inOne<T>(act: () => T): T {
    return this.#db.transaction(act).immediate();
  }

  #text(sql: string): string {
    return this.#statement(sql).pluck().get() as string;
  }

  #statement(sql: string): Database.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#db.prepare(sql)));
    return statement;
  }
}

/**
 * SQLite doesn't wait where waiting could be a deadlock, as when two turn a new file to WAL at once, but says at once
 * that it is locked (https://www.sqlite.org/c3ref/busy_handler.html); what holds no lock itself can wait, and does.
 */
function patient(act: () => void): void {
  const clock = systemClock(() => "unsynced");
  const until = clock.monotonicMs() + busyMs;
  for (;;) {
    try {
      return act();
    } catch (thrown) {
      const isBusy = String((thrown as { code?: unknown }).code).startsWith("SQLITE_BUSY");
      // What SQLite has waited itself counts.
      if (!isBusy || clock.monotonicMs() >= until) throw thrown;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lookEveryMs);
  }
}

function translate(thrown: unknown, path: string): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown;
  const code = (thrown as { code?: unknown } | null)?.code;
  const isForeign = code === "SQLITE_NOTADB" || String(code).startsWith("SQLITE_CORRUPT");
  return new HoldfastError(
    isForeign ? "STATE_FOREIGN" : "STATE_UNAVAILABLE",
    `Cannot use ${path} for state: ${messageOf(thrown)}`,
    { cause: thrown },
  );
}

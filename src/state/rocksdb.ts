/**
 * State, positions and outbox of one worker in a RocksDB folder, by the optional package rocksdb-native, which is loaded
 * when a store is opened.
 *
 *   m               format and identity              s[space,key]   a value behind its end (ms, 0: none)
 *   c scope         its use, what it began from      x end key      values that have an end, by it
 *   r scope first   last ID of a range               o n            a row of the outbox; n: the last number
 *
 * A unit of work is one write batch: one record of RocksDB's log. RocksDB hands it to the kernel; this store then syncs
 * that log itself before it answers, since the package has no synced writes. A log that was begun between the write
 * and the look at it is synced with the one before it; one that is gone by then lies in tables that RocksDB has synced.
 *
 * What a crash leaves: the log up to the last sync, and perhaps more of it in order. A log that ends amid a record is
 * taken as far as it goes; one that is damaged amid is refused. After a failed write or sync the folder is closed and
 * read anew, so that nothing is told that may not be there.
 *
 * Bounds: as SqliteFile's.
 */
import { open, type FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { systemClock, type Clock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { pack, unpack } from "./packed-fields.ts";
import { before, blobOf, idNumber, numberOf, type IdRange } from "./positions.ts";
import {
  bigEndian,
  endOf,
  endOfRanges,
  expiryKey,
  rangeKey,
  rangesKey,
  rowKey,
  scopeKey,
  stateKey,
} from "./rocksdb-keys.ts";
import { checkFolder, foreign, syncFolder } from "./rocksdb-folder.ts";
import { loadRocksDb, type Bytes, type RocksDb, type WriteBatch } from "./rocksdb-package.ts";
import { ScopePositions, scopesMax } from "./scope-positions.ts";
import type { GroupProgress, OutboxRow, WorkerCommit, WorkerStore, WorkerUnit } from "./state.ts";

export interface RocksDbStoreOptions {
  /** A folder of its own. */
  readonly path: string;
  /** `power-loss` (default): each commit is synced; `crash`: it outlives the process, not the power. */
  readonly durability?: "power-loss" | "crash";
  /** Left out: the machine's. */
  readonly clock?: Pick<Clock, "wallMs">;
}

interface Opened {
  readonly db: RocksDb;
  readonly id: string;
  readonly scopes: Map<string, ScopePositions>;
  lastN: number;
  log: { readonly name: string; readonly file: FileHandle } | null;
}

/** How a scope lies on disk, beside its ranges. */
interface ScopeRecord {
  readonly used: number;
  readonly origin: readonly [scope: string, bound: string] | null;
}

const format = 1;
const sweepMax = 20;
/** 4 MiB twice instead of 64 MiB twice: an edge device's, and what a restart reads again. */
const writeBufferSize = 4 * 1024 * 1024;
/** `TOLERATE_CORRUPTED_TAIL_RECORDS`: a record cut short by a crash is none, damage amid is an error. */
const walRecoveryMode = 0;
export class RocksDbStore implements WorkerStore {
  readonly #options: Required<RocksDbStoreOptions>;
  #opened: Opened | undefined;
  #reading: Promise<Opened> | undefined;
  #isWanted = false;
  #id = "";
  /** Writes follow each other: what a unit checks is what it changes. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: RocksDbStoreOptions) {
    this.#options = {
      durability: "power-loss",
      clock: systemClock(() => "synced"),
      ...options,
    };
  }

  get id(): string {
    return this.#id;
  }

  /** @throws HoldfastError STATE_PACKAGE, STATE_LOCKED, STATE_FOREIGN, STATE_UNAVAILABLE */
  async open(): Promise<void> {
    this.#isWanted = true;
    await this.#inTurn(async () => undefined);
  }

  async close(): Promise<void> {
    this.#isWanted = false;
    await this.#turn;
    await this.#shut();
  }

  async get(space: string, key: string): Promise<Uint8Array | null> {
    try {
      return await this.#value(await this.#ready(), space, key);
    } catch (thrown) {
      throw this.#translate(thrown);
    }
  }

  commit(unit: WorkerUnit): Promise<WorkerCommit> {
    return this.#inTurn((opened) => this.#commit(opened, unit));
  }

  async isDone(scope: string, ids: readonly string[]): Promise<ReadonlySet<string>> {
    const { scopes } = await this.#ready();
    return new Set(ids.filter((id) => isPassed(scopes, scope, idNumber(id))));
  }

  async readOutbox(after: number, max: number): Promise<readonly OutboxRow[]> {
    const rows: OutboxRow[] = [];
    const { db } = await this.#ready();
    for await (const { key, value } of db.iterator({ gt: rowKey(after), lt: "p", limit: max })) {
      const [topic, ...fields] = unpack(value);
      const n = Number(key.readBigUInt64BE(1));
      rows.push({ n, topic: String(Buffer.from(topic ?? [])), fields });
    }
    return rows;
  }

  releaseOutbox(n: number): Promise<void> {
    return this.#inTurn(({ db }) =>
      // It may come back after a power cut: an append skips what is in its stream.
      this.#write(db, (batch) => batch.tryDeleteRange(rowKey(0), rowKey(n + 1)), false),
    );
  }

  compact(scope: string, progress: GroupProgress): Promise<void> {
    return this.#inTurn(async (opened) => {
      const known = opened.scopes.get(scope) ?? new ScopePositions(scope);
      await this.#replace(opened, known.compacted(progress));
    });
  }

  rewind(scope: string, from: string, next: string): Promise<void> {
    return this.#inTurn(async (opened) => {
      const { scopes } = opened;
      const known = scopes.get(scope) ?? new ScopePositions(scope);
      // What `scope` itself goes back to becomes its own: the chain has one link.
      const { origin } = known;
      const above = origin === null ? [] : (scopes.get(origin.scope)?.ranges() ?? []);
      const inherited = before(above, origin?.bound ?? 0n);
      const own = scopes.get(next)?.ranges() ?? [];
      await this.#replace(
        opened,
        new ScopePositions(scope, [...known.ranges(), ...inherited]),
        new ScopePositions(next, own, { scope, bound: idNumber(from) }),
      );
    });
  }

  async #commit(opened: Opened, unit: WorkerUnit): Promise<WorkerCommit> {
    const { db, scopes } = opened;
    const isNew = !scopes.has(unit.scope);
    const known = scopes.get(unit.scope) ?? new ScopePositions(unit.scope);
    const numbers = unit.done.map(idNumber);
    const ids = unit.done.filter((id) => isPassed(scopes, unit.scope, idNumber(id)));
    if (ids.length > 0) return { result: "repeated", ids };
    for (const { space, key, value } of unit.reads) {
      const now = await this.#value(opened, space, key);
      const isSame =
        value === null || now === null ? value === now : Buffer.compare(value, now) === 0;
      if (!isSame) return { result: "conflict" };
    }
    known.checkRoom(numbers.length);
    const expired = await this.#expired(db);
    let { lastN } = opened;
    await this.#write(db, (batch) => {
      for (const each of expired) batch.tryDelete(each);
      if (isNew) enter(opened, known, batch);
      for (const number of numbers) batch.tryPut(rangeKey(unit.scope, number), blobOf(number));
      for (const { space, key, value, expiresAt = 0 } of unit.writes) {
        const at = stateKey(space, key);
        if (value === null) batch.tryDelete(at);
        else batch.tryPut(at, Buffer.concat([endOf(expiresAt), value]));
        if (value !== null && expiresAt > 0) batch.tryPut(expiryKey(expiresAt, at), "");
      }
      for (const { topic, fields } of unit.emits) {
        lastN += 1;
        batch.tryPut(rowKey(lastN), pack([topic, ...fields]));
      }
      if (unit.emits.length > 0) batch.tryPut("n", String(lastN));
    });
    opened.lastN = lastN;
    known.add(numbers);
    return { result: "committed" };
  }

  /** Their ranges in place of what was kept. */
  async #replace(opened: Opened, ...all: readonly ScopePositions[]): Promise<void> {
    await this.#write(opened.db, (batch) => {
      for (const positions of all) {
        const { scope } = positions;
        batch.tryDeleteRange(rangesKey(scope), endOfRanges(scope));
        for (const { first, last } of positions.ranges()) {
          batch.tryPut(rangeKey(scope, first), blobOf(last));
        }
        enter(opened, positions, batch);
      }
    });
  }

  async #value({ db }: Opened, space: string, key: string): Promise<Uint8Array | null> {
    const found = await db.get(stateKey(space, key));
    if (found === null) return null;
    const end = found.readDoubleLE(0);
    return end > 0 && end <= this.#options.clock.wallMs() ? null : found.subarray(8);
  }

  /** Keys to delete: values whose end has come, and what says so. A value written anew has another end. */
  async #expired(db: RocksDb): Promise<Bytes[]> {
    const gone: Bytes[] = [];
    const nowMs = Math.floor(this.#options.clock.wallMs());
    const until = expiryKey(nowMs + 1, Buffer.alloc(0));
    for await (const { key } of db.iterator({ gte: "x", lt: until, limit: sweepMax })) {
      gone.push(key);
      const at = key.subarray(9);
      const found = await db.get(at);
      if (found !== null && key.subarray(1, 9).equals(bigEndian(found.readDoubleLE(0)))) {
        gone.push(at);
      }
    }
    return gone;
  }

  async #write(db: RocksDb, fill: (batch: WriteBatch) => void, isSynced = true): Promise<void> {
    const isSafe = isSynced && this.#options.durability === "power-loss";
    const before = isSafe ? await db.currentWalFile() : null;
    const batch = db.write({ autoDestroy: true });
    fill(batch);
    await batch.flush();
    if (before === null) return;
    const { path } = await db.currentWalFile();
    for (const name of new Set([before.path, path])) await this.#sync(basename(name));
  }

  async #sync(name: string): Promise<void> {
    const opened = this.#opened;
    if (opened === undefined) return;
    if (opened.log?.name !== name) {
      const file = await open(join(this.#options.path, name), "r+").catch((thrown: unknown) => {
        if ((thrown as { code?: unknown }).code === "ENOENT") return null;
        throw thrown;
      });
      if (file === null) return;
      await opened.log?.file.close();
      opened.log = { name, file };
      await syncFolder(this.#options.path);
    }
    await opened.log.file.datasync();
  }

  #inTurn<T>(act: (opened: Opened) => Promise<T>): Promise<T> {
    const turn = this.#turn.then(async () => {
      const opened = await this.#ready();
      try {
        return await act(opened);
      } catch (thrown) {
        // What RocksDB holds in memory may be more than what the disk has.
        if (!(thrown instanceof HoldfastError)) await this.#shut();
        throw this.#translate(thrown);
      }
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Opened, anew after a failed write. */
  async #ready(): Promise<Opened> {
    if (this.#opened !== undefined) return this.#opened;
    if (!this.#isWanted) {
      const why = `The store ${this.#options.path} is not open`;
      throw new HoldfastError("STATE_UNAVAILABLE", why);
    }
    this.#reading ??= this.#read().finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  async #read(): Promise<Opened> {
    const { path } = this.#options;
    const RocksDB = await loadRocksDb();
    let db: RocksDb | undefined;
    try {
      await checkFolder(path);
      db = new RocksDB(path, {
        writeBufferSize,
        walRecoveryMode,
        maxBackgroundJobs: 2,
        maxOpenFiles: 64,
      });
      await db.ready();
      this.#opened = await readAll(db, path);
      this.#id = this.#opened.id;
      return this.#opened;
    } catch (thrown) {
      await db?.close().catch(() => undefined);
      throw this.#translate(thrown, true);
    }
  }

  async #shut(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    await opened?.log?.file.close().catch(() => undefined);
    await opened?.db.close().catch(() => undefined);
  }

  #translate(thrown: unknown, isOpening = false): HoldfastError {
    if (thrown instanceof HoldfastError) return thrown;
    const message = messageOf(thrown);
    const { path } = this.#options;
    if (message.includes("/LOCK: ")) {
      const why = `Cannot open ${path} for state: another worker has it open`;
      return new HoldfastError("STATE_LOCKED", why, { cause: thrown });
    }
    const isPassing = /No space|Permission denied|Read-only|Input\/output|Too many open/i;
    const isDamage = /corrupt|checksum|mismatch|truncated|bad (block|magic)/i.test(message);
    return new HoldfastError(
      isDamage || (isOpening && !isPassing.test(message)) ? "STATE_FOREIGN" : "STATE_UNAVAILABLE",
      `Cannot use ${path} for state: ${message}`,
      { cause: thrown },
    );
  }
}

/** All that is kept in memory. @throws HoldfastError STATE_FOREIGN */
async function readAll(db: RocksDb, path: string): Promise<Opened> {
  const found = await db.get("m");
  let id: string = crypto.randomUUID();
  if (found === null) {
    for await (const _any of db.iterator({ limit: 1 }))
      throw foreign(path, "it is another program's");
    const batch = db.write({ autoDestroy: true });
    batch.tryPut("m", JSON.stringify({ format, id }));
    await batch.flush();
    // Once: from here on the identity is certain, whatever is synced next.
    await db.flush();
  } else {
    const known = JSON.parse(String(found)) as { format: number; id: string };
    if (known.format > format) {
      throw foreign(path, `it is from format ${known.format}, this program knows ${format}`);
    }
    ({ id } = known);
  }
  const scopes = new Map<string, ScopePositions>();
  for await (const { key, value } of db.iterator({ gte: "c", lt: "d" })) {
    const scope = String(key.subarray(1));
    const ranges: IdRange[] = [];
    const within = { gte: rangesKey(scope), lt: endOfRanges(scope) };
    for await (const range of db.iterator(within)) {
      ranges.push({ first: numberOf(range.key.subarray(-16)), last: numberOf(range.value) });
    }
    const { used, origin } = JSON.parse(String(value)) as ScopeRecord;
    const from = origin === null ? null : { scope: origin[0], bound: BigInt(origin[1]) };
    const positions = new ScopePositions(scope, ranges, from);
    positions.used = used;
    scopes.set(scope, positions);
  }
  return { db, id, scopes, lastN: Number(String((await db.get("n")) ?? 0)), log: null };
}

/** Dealt with, here or before the replay that began this scope. */
function isPassed(scopes: Opened["scopes"], scope: string, id: bigint): boolean {
  const own = scopes.get(scope);
  if (own === undefined || own.holds(id)) return own !== undefined;
  const { origin } = own;
  return origin !== null && id < origin.bound && scopes.get(origin.scope)?.holds(id) === true;
}

function recordOf({ used, origin }: ScopePositions): string {
  const from = origin === null ? null : ([origin.scope, String(origin.bound)] as const);
  return JSON.stringify({ used, origin: from } satisfies ScopeRecord);
}

/** The scope is in use; of too many those go that were not compacted for the longest. */
function enter({ scopes }: Opened, positions: ScopePositions, batch: WriteBatch): void {
  positions.used = Math.max(0, ...[...scopes.values()].map(({ used }) => used)) + 1;
  scopes.set(positions.scope, positions);
  batch.tryPut(scopeKey(positions.scope), recordOf(positions));
  const old = [...scopes.values()].sort((a, b) => b.used - a.used).slice(scopesMax);
  for (const { scope } of old) {
    batch.tryDelete(scopeKey(scope));
    batch.tryDeleteRange(rangesKey(scope), endOfRanges(scope));
    scopes.delete(scope);
  }
}

/**
 * What the worker knows of the file without asking it: where each stream begins and ends, where each group stands.
 *
 * A turn works on drafts; `keep` makes them the truth after the commit, `discard` forgets them after a rollback.
 * One entry a stream and one a group and stream: nothing here grows with the backlog.
 */
import { randomUUID } from "node:crypto";
import { Epochs, insertEpoch } from "./epochs.ts";
import { letterSize } from "./letters.ts";
import type { Cursor, GroupDeclaration, JournalIdentity, StreamStatus } from "./journal.ts";
import type { Moment, WorkerSetup } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

/** seq takes the low 40 bits of a chunk's id: 35 years at 1,000 events a second, and 2^22 streams. */
const seqBits = 40n;
export const seqMask = 2 ** 40 - 1;

export interface StreamRecord {
  readonly id: number;
  readonly name: string;
  /** Oldest seq kept; head + 1 when none is. */
  first: number;
  head: number;
  /** Bytes stored since the stream began, and how many of those were trimmed. */
  total: number;
  trimmed: number;
  /** Up to here chunks were thinned (thinning.ts); 0: none. */
  thinned: number;
  /** How many seqs from `first` to `head` have no event any more. */
  missing: number;
  letters: number;
  letterBytes: number;
}

export interface ChunkRow {
  readonly first: number;
  readonly last: number;
  readonly made: number;
  readonly total: number;
  readonly size: number;
  readonly at: number;
  readonly synced: number;
  readonly boot: number;
}

interface SparseSum {
  readonly newest: bigint;
  readonly events: bigint;
  readonly bytes: bigint;
}

export const chunkColumns = `id & ${seqMask} AS first, last, made, total, size, at, synced, boot`;

export function chunkId(stream: number, seq: number): bigint {
  return (BigInt(stream) << seqBits) | BigInt(seq);
}

/** The stream that a chunk's id stands in. */
export function streamOf(chunk: bigint): number {
  return Number(chunk >> seqBits);
}

export interface Ordinals {
  readonly epochs: Epochs;
  readonly boot: number;
}

export class Ledger {
  readonly #db: Db;
  readonly #streams = new Map<string, StreamRecord>();
  readonly #cursors = new Map<string, Map<string, Cursor>>();
  readonly #draftStreams = new Map<string, StreamRecord>();
  readonly #draftCursors = new Map<string, Map<string, Cursor>>();
  readonly #draftForgotten = new Set<string>();
  readonly #readers = new Map<string, string[]>();
  /** Number of the last commit that made a chunk: the order of chunks across streams. */
  made = 0;

  constructor(db: Db) {
    this.#db = db;
  }

  /**
   * Reads what the file says; one or two rows a stream. `earlier`: what was known before the file had to be opened
   * again; a group that has not moved yet still stands where it was told it stands, whatever was trimmed since.
   */
  load(groups: readonly GroupDeclaration[], earlier?: Ledger): void {
    const ends = (order: "ASC" | "DESC") =>
      this.#db.prepare<[bigint, bigint], ChunkRow>(
        `SELECT ${chunkColumns} FROM chunk WHERE id >= ? AND id < ? ORDER BY id ${order} LIMIT 1`,
      );
    const [oldest, newest] = [ends("ASC"), ends("DESC")];
    const sparse = this.#db.prepare<[bigint, bigint], SparseSum>(
      `SELECT coalesce(max(id), 0) AS newest, coalesce(sum(count), 0) AS events, coalesce(sum(size), 0) AS bytes
        FROM sparse WHERE id >= ? AND id < ?`,
    );
    sparse.safeIntegers(true);
    const letters = this.#db.prepare(
      `SELECT count(*) AS letters, coalesce(sum(${letterSize}), 0) AS bytes FROM dead_letter WHERE stream = ?`,
    );
    const rows = this.#db.prepare("SELECT id, name, head, total FROM stream").all() as {
      id: number;
      name: string;
      head: number;
      total: number;
    }[];
    for (const row of rows) {
      const range = [chunkId(row.id, 0), chunkId(row.id + 1, 0)] as const;
      const first = oldest.get(...range);
      const last = newest.get(...range);
      const dead = letters.get(row.name) as { letters: number; bytes: number };
      // Where damage took the last chunks, the row knows how far seqs were given.
      const head = Math.max(last?.last ?? 0, row.head);
      const total = last?.total ?? row.total;
      const record: StreamRecord = {
        id: row.id,
        name: row.name,
        first: first?.first ?? head + 1,
        head,
        total,
        trimmed: first === undefined ? total : first.total - first.size,
        thinned: 0,
        missing: 0,
        letters: dead.letters,
        letterBytes: dead.bytes,
      };
      const thinned = sparse.get(...range) as SparseSum;
      if (thinned.newest > 0n) {
        // Behind what was thinned the totals count on; of that itself the table says what is left.
        const dense = oldest.get(thinned.newest + 1n, range[1]);
        const denseFirst = dense?.first ?? head + 1;
        record.thinned = denseFirst - 1;
        record.missing = denseFirst - record.first - Number(thinned.events);
        record.trimmed =
          (dense === undefined ? total : dense.total - dense.size) - Number(thinned.bytes);
      }
      this.#streams.set(row.name, record);
      this.made = Math.max(this.made, last?.made ?? 0);
    }
    for (const { group_name, stream, seq, mark } of this.#db
      .prepare("SELECT group_name, stream, seq, mark FROM cursor")
      .all() as { group_name: string; stream: string; seq: number; mark: string | null }[]) {
      put(this.#cursors, group_name, stream, { seq, mark });
    }
    for (const { group, streams } of groups) {
      for (const stream of streams) {
        this.#readers.set(stream, [...(this.#readers.get(stream) ?? []), group]);
        if (this.#cursors.get(group)?.has(stream) !== true) {
          // A new group begins before the oldest event that is kept; written when it first moves.
          const first = this.#streams.get(stream)?.first ?? 1;
          const known = earlier?.cursor(group, stream);
          put(this.#cursors, group, stream, known ?? { seq: first - 1, mark: null });
        }
      }
    }
  }

  /** The stream's draft; made, with its row, when it is new. */
  stream(name: string): StreamRecord {
    const draft = this.#draftStreams.get(name);
    if (draft !== undefined) return draft;
    const known = this.#streams.get(name);
    const record = known === undefined ? this.#make(name) : { ...known };
    this.#draftStreams.set(name, record);
    return record;
  }

  #make(name: string): StreamRecord {
    const result = this.#db.prepare("INSERT INTO stream (name) VALUES (?)").run(name);
    const id = Number(result.lastInsertRowid);
    const counts = { total: 0, trimmed: 0, thinned: 0, missing: 0, letters: 0, letterBytes: 0 };
    return { id, name, first: 1, head: 0, ...counts };
  }

  known(name: string): StreamRecord | undefined {
    return this.#draftStreams.get(name) ?? this.#streams.get(name);
  }

  names(): string[] {
    return [...new Set([...this.#streams.keys(), ...this.#draftStreams.keys()])];
  }

  cursor(group: string, stream: string): Cursor {
    const found =
      this.#draftCursors.get(group)?.get(stream) ?? this.#cursors.get(group)?.get(stream);
    return found ?? { seq: (this.known(stream)?.first ?? 1) - 1, mark: null };
  }

  moveCursor(group: string, stream: string, cursor: Cursor): void {
    put(this.#draftCursors, group, stream, cursor);
  }

  /** No configuration names it any more. */
  forget(group: string): void {
    this.#draftCursors.delete(group);
    this.#draftForgotten.add(group);
  }

  /** The seq that every group which reads the stream has passed; no reader: everything. */
  passed(stream: string): number {
    const readers = this.#readers.get(stream) ?? [];
    return Math.min(...readers.map((group) => this.cursor(group, stream).seq));
  }

  keep(): void {
    for (const group of this.#draftForgotten) this.#cursors.delete(group);
    for (const [name, record] of this.#draftStreams) this.#streams.set(name, record);
    for (const [group, cursors] of this.#draftCursors) {
      for (const [stream, cursor] of cursors) put(this.#cursors, group, stream, cursor);
    }
    this.discard();
  }

  /** The drafts of streams as they are now, for `rewind`. */
  drafts(): readonly StreamRecord[] {
    return [...this.#draftStreams.values()].map((record) => ({ ...record }));
  }

  /** After ROLLBACK TO: a stream that was made since has no row, what was counted since is not there. */
  rewind(drafts: readonly StreamRecord[]): void {
    this.#draftStreams.clear();
    for (const record of drafts) this.#draftStreams.set(record.name, record);
  }

  /** Dead letters of all streams, and their bytes. */
  letters(): { letters: number; letterBytes: number } {
    const sum = { letters: 0, letterBytes: 0 };
    for (const name of this.names()) {
      const record = this.known(name);
      sum.letters += record?.letters ?? 0;
      sum.letterBytes += record?.letterBytes ?? 0;
    }
    return sum;
  }

  discard(): void {
    this.#draftStreams.clear();
    this.#draftCursors.clear();
    this.#draftForgotten.clear();
  }

  /** What the present drafts change, for the main thread. */
  changes(): {
    streams: (readonly [string, StreamStatus])[];
    cursors: (readonly [string, string, Cursor])[];
    forgotten: readonly string[];
  } {
    return {
      streams: [...this.#draftStreams.values()].map(
        (record) => [record.name, statusOf(record)] as const,
      ),
      cursors: flat(this.#draftCursors),
      forgotten: [...this.#draftForgotten],
    };
  }

  everything(): ReturnType<Ledger["changes"]> {
    return {
      streams: [...this.#streams.values()].map(
        (record) => [record.name, statusOf(record)] as const,
      ),
      cursors: flat(this.#cursors),
      forgotten: [],
    };
  }
}

function statusOf(record: StreamRecord): StreamStatus {
  const { first, head, total, trimmed, thinned, missing, letters } = record;
  const status = { first, head, bytes: total - trimmed, deadLetters: letters };
  return missing === 0 ? status : { ...status, thinned: { to: thinned, missing } };
}

function put(
  into: Map<string, Map<string, Cursor>>,
  group: string,
  stream: string,
  cursor: Cursor,
): void {
  const cursors = into.get(group);
  if (cursors === undefined) into.set(group, new Map([[stream, cursor]]));
  else cursors.set(stream, cursor);
}

function flat(
  from: ReadonlyMap<string, ReadonlyMap<string, Cursor>>,
): (readonly [string, string, Cursor])[] {
  return [...from].flatMap(([group, cursors]) =>
    [...cursors].map(([stream, cursor]) => [group, stream, cursor] as const),
  );
}

/**
 * Who this journal is, and in which epoch: a new one begins where the history may have forked, which is for a new
 * file, another board than before, or a boot under `durability: crash` that found the file not closed.
 */
export function identify(
  db: Db,
  setup: WorkerSetup,
  now: Moment,
  /** Something may be lost: a new epoch begins, its ordinal behind those that may be lost as well. */
  damaged?: { readonly reason: string; readonly lostOrdinals: number },
): { identity: JournalIdentity } & Ordinals {
  const meta = db.prepare("SELECT value FROM meta WHERE name = ?").pluck();
  const setMeta = db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)");
  return db.transaction(() => {
    const device = (meta.get("device") as string | undefined) ?? setup.device;
    const openBoot = meta.get("open-in-boot") as string | undefined;
    const openUnder = meta.get("open-under") as string | undefined;
    setMeta.run("device", device);
    setMeta.run("open-in-boot", setup.bootId);
    setMeta.run("open-under", setup.durability);
    const last = new Epochs(db, 0).last();
    const reason = damaged?.reason ?? newEpochReason(setup, last, openBoot, openUnder);
    let epoch = last;
    if (reason === null && last?.board === null && setup.board !== null) {
      // The board could not be told when the epoch began; from now on another one is noticed.
      db.prepare("UPDATE epoch SET board = ? WHERE ordinal = ?").run(setup.board, last.ordinal);
    }
    if (reason !== null) {
      epoch = {
        ordinal: (last?.ordinal ?? 0) + 1 + (damaged?.lostOrdinals ?? 0),
        uuid: randomUUID(),
        parent: last?.uuid ?? null,
        board: setup.board,
      };
      insertEpoch(db, epoch, reason, now.wallMs);
    }
    db.prepare("INSERT OR IGNORE INTO boot (uuid) VALUES (?)").run(setup.bootId);
    const boot = db
      .prepare("SELECT ordinal FROM boot WHERE uuid = ?")
      .pluck()
      .get(setup.bootId) as number;
    if (epoch === undefined) throw new Error("A journal without an epoch");
    const identity = { device, epoch: epoch.uuid, parent: epoch.parent };
    return { identity, epochs: new Epochs(db, epoch.ordinal), boot };
  })();
}

function newEpochReason(
  setup: WorkerSetup,
  last: { readonly board: string | null } | undefined,
  openBoot: string | undefined,
  openUnder: string | undefined,
): string | null {
  if (last === undefined) return "new journal";
  if (setup.board !== null && last.board !== null && setup.board !== last.board)
    return "another board";
  const wasOpen = openBoot !== undefined && openBoot !== "";
  const rebooted = openBoot !== setup.bootId;
  // What counts is what was promised then: the power cut may be why the setting was changed.
  if (openUnder === "crash" && wasOpen && rebooted) return "unclean reboot under durability crash";
  return null;
}

/** The file is closed in order: a later boot need not doubt it. */
export function markClosed(db: Db): void {
  db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES ('open-in-boot', '')").run();
}

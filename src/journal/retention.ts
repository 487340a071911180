/**
 * What is kept and what goes (invariant 5). Whole chunks only, oldest commit first.
 *
 * - What every group has passed stays for replay until `maxAge`, or until space is needed: it goes first, and that
 *   is no drop.
 * - What a group has not passed goes only by a quota that the configuration names (the journal's `maxBytes` under
 *   drop-oldest, a stream's `maxBytes`): counted, and told in `_gaps`.
 * - `_gaps` itself is never dropped.
 *
 * A chunk goes in constant time: one row read, one deleted. Room is made in steps of 1 % of `maxBytes`, so that
 * drops come in few large ranges; adjacent ranges of one reason merge in the table `gap` until they are sealed
 * into the stream `_gaps`, 10 s after the last drop or 60 s after the first.
 */
import { chunkColumns, chunkId, type ChunkRow, type Ledger } from "./ledger.ts";
import { gapsStream } from "./journal.ts";
import type { Dropped, Moment, WorkerSetup } from "./protocol.ts";
import { pageBytes, type Db } from "./sqlite.ts";

/**
 * Intake ends 10 % below `maxBytes`; units of work have half of the rest before they too make room, so that
 * cursors, dead letters and trims always find some (invariant 5).
 */
const shares = { intake: 0.9, units: 0.95 } as const;
/** What units bring in one turn, so that making room for a pile of them does not empty the journal at once. */
const unitsShare = 1 / 8;
const stepShare = 0.01;
/**
 * Below a cap that a full disk sets, the shares are of this much, bytes: 10 % of a large journal would be dropped
 * at once only because its disk is full; 3.2 MiB hold twelve of the largest usual turns. Kept in `#limitBytes`.
 */
const cappedMarginBytes = 32 * 1024 * 1024;
const sealQuietMs = 10_000;
const sealAgeMs = 60_000;
/** Chunks that one turn trims for age, so that a turn stays short; the next goes on. */
const agedPerTurnMax = 64;

interface Gap {
  from: number;
  to: number;
  openedMs: number;
  extendedMs: number;
}

export class Retention {
  readonly #db: Db;
  readonly #ledger: Ledger;
  readonly #setup: WorkerSetup;
  readonly #oldest;
  readonly #delete;
  readonly #offset;
  readonly #pages;
  readonly #freePages;
  readonly #gaps = new Map<string, Gap>();
  #dropped: Dropped[] = [];
  #maxBytes: number;

  constructor(db: Db, ledger: Ledger, setup: WorkerSetup) {
    this.#maxBytes = setup.maxBytes;
    this.#db = db;
    this.#ledger = ledger;
    this.#setup = setup;
    this.#oldest = db.prepare(
      `SELECT ${chunkColumns} FROM chunk WHERE id >= ? AND id < ? ORDER BY id LIMIT 1`,
    );
    this.#delete = db.prepare("DELETE FROM chunk WHERE id = ?");
    this.#offset = db.prepare("SELECT offset_ms FROM boot WHERE ordinal = ?").pluck();
    this.#pages = db.prepare("PRAGMA page_count").pluck();
    this.#freePages = db.prepare("PRAGMA freelist_count").pluck();
    for (const row of db.prepare("SELECT * FROM gap").all() as GapRow[]) {
      // From an earlier run: due at once.
      const old = Number.NEGATIVE_INFINITY;
      const gap = { from: row.from_seq, to: row.to_seq, openedMs: old, extendedMs: old };
      this.#gaps.set(gapKey(row.stream, row.reason), gap);
    }
  }

  usedBytes(): number {
    return ((this.#pages.get() as number) - (this.#freePages.get() as number)) * pageBytes;
  }

  /** What was dropped since this was last called; after a rollback nothing was. */
  takeDropped(): readonly Dropped[] {
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  /** True when `bytes` more may come in, after trimming and, by policy, dropping. */
  makeRoom(bytes: number, now: Moment, whose: keyof typeof shares): boolean {
    const limit = this.#limitBytes(whose);
    if (this.usedBytes() + bytes <= limit) return true;
    const goal = limit - bytes - this.#maxBytes * stepShare;
    this.#trim(goal, true, now);
    if (this.usedBytes() + bytes <= limit) return true;
    if (this.#setup.dropOldest) this.#trim(goal, false, now);
    // With nothing left to wait for, only SQLite itself can say whether it fits.
    return this.usedBytes() + bytes <= limit || this.#oldestOfAll(false) === undefined;
  }

  /** How many bytes units may bring into this turn, of `wanted`. */
  roomForUnits(wanted: number, now: Moment): number {
    const most = Math.min(wanted, this.#maxBytes * unitsShare);
    if (this.makeRoom(most, now, "units")) return most;
    return this.#limitBytes("units") - this.usedBytes();
  }

  /** The disk has no more than `bytes` for the file, for now: as if `maxBytes` were that; Infinity: it has. */
  capAt(bytes: number): void {
    this.#maxBytes = Math.min(this.#setup.maxBytes, bytes);
  }

  #limitBytes(whose: keyof typeof shares): number {
    const { maxBytes } = this.#setup;
    if (this.#maxBytes === maxBytes) return maxBytes * shares[whose];
    const marginBytes = (1 - shares[whose]) * Math.min(this.#maxBytes, cappedMarginBytes);
    return Math.min(maxBytes * shares[whose], this.#maxBytes - marginBytes);
  }

  /** The streams' own quotas, and `maxAge` of the whole. Ages count only between synced times (invariant 9). */
  enforceQuotas(now: Moment): void {
    for (const name of this.#ledger.names()) {
      const quota = this.#setup.streams.get(name);
      this.#trimAged(name, quota?.maxAgeMs ?? this.#setup.maxAgeMs, now);
      if (quota?.maxBytes === undefined || name === gapsStream) continue;
      for (;;) {
        const stream = this.#ledger.known(name);
        if (stream === undefined || stream.total - stream.trimmed <= quota.maxBytes) break;
        const chunk = this.#oldestOf(name);
        // The newest chunk stays, however small the quota.
        if (chunk === undefined || chunk.last === stream.head) break;
        this.#remove(name, chunk, "stream-bytes", now);
      }
    }
  }

  /** Only what every group has passed: an age is no quota, it never drops. */
  #trimAged(name: string, maxAgeMs: number, now: Moment): void {
    if (now.clock !== "synced") return;
    for (let count = 0; count < agedPerTurnMax; count++) {
      const chunk = this.#oldestOf(name);
      const madeAtMs = chunk === undefined ? null : this.#madeAtMs(chunk);
      if (chunk === undefined || madeAtMs === null || now.wallMs - madeAtMs <= maxAgeMs) return;
      if (chunk.last > this.#ledger.passed(name)) return;
      this.#remove(name, chunk, "age", now);
    }
  }

  /** By the wall clock; null when the clock was never synced in that boot. */
  #madeAtMs(chunk: ChunkRow): number | null {
    if (chunk.synced === 1) return chunk.at;
    const offsetMs = this.#offset.get(chunk.boot) as number | null | undefined;
    return offsetMs === null || offsetMs === undefined ? null : offsetMs + chunk.at;
  }

  #trim(goalBytes: number, passedOnly: boolean, now: Moment): void {
    while (this.usedBytes() > goalBytes) {
      const oldest = this.#oldestOfAll(passedOnly);
      if (oldest === undefined) return;
      this.#remove(oldest.stream, oldest.chunk, "quota", now);
    }
  }

  #oldestOfAll(passedOnly: boolean): { stream: string; chunk: ChunkRow } | undefined {
    let found: { stream: string; chunk: ChunkRow } | undefined;
    for (const stream of this.#ledger.names()) {
      const chunk = this.#oldestOf(stream);
      if (chunk === undefined || (found !== undefined && found.chunk.made <= chunk.made)) continue;
      const isPassed = chunk.last <= this.#ledger.passed(stream);
      if (isPassed || (!passedOnly && stream !== gapsStream)) found = { stream, chunk };
    }
    return found;
  }

  #oldestOf(name: string): ChunkRow | undefined {
    const stream = this.#ledger.known(name);
    if (stream === undefined || stream.first > stream.head) return undefined;
    return this.#oldest.get(chunkId(stream.id, 0), chunkId(stream.id + 1, 0)) as
      | ChunkRow
      | undefined;
  }

  #remove(name: string, chunk: ChunkRow, reason: string, now: Moment): void {
    const stream = this.#ledger.stream(name);
    const passed = this.#ledger.passed(name);
    if (chunk.last === stream.head) {
      // The rows that tell where the stream ends are gone with this one.
      this.#db
        .prepare("UPDATE stream SET head = ?, total = ? WHERE id = ?")
        .run(stream.head, stream.total, stream.id);
    }
    this.#delete.run(chunkId(stream.id, chunk.first));
    stream.first = chunk.last + 1;
    stream.trimmed = chunk.total;
    if (chunk.last <= passed) return;
    const from = Math.max(chunk.first, passed + 1);
    const before = this.#dropped.at(-1);
    if (before?.stream === name && before.reason === reason && before.to + 1 === from) {
      this.#dropped[this.#dropped.length - 1] = { ...before, to: chunk.last };
    } else this.#dropped.push({ stream: name, from, to: chunk.last, reason });
    this.#noteGap({ stream: name, from, to: chunk.last, reason }, now);
  }

  #noteGap({ stream, from, to, reason }: Dropped, now: Moment): void {
    const key = gapKey(stream, reason);
    const open = this.#gaps.get(key);
    if (open !== undefined && open.to + 1 !== from)
      this.#due.push({ stream, from: open.from, to: open.to, reason });
    const extends_ = open !== undefined && open.to + 1 === from;
    const begin = extends_ ? open.from : from;
    const openedMs = extends_ ? open.openedMs : now.monotonicMs;
    this.#gaps.set(key, { from: begin, to, openedMs, extendedMs: now.monotonicMs });
    this.#db
      .prepare("INSERT OR REPLACE INTO gap (stream, from_seq, to_seq, reason) VALUES (?, ?, ?, ?)")
      .run(stream, begin, to, reason);
  }

  #due: Dropped[] = [];

  /** The ranges whose time has come, to be emitted into `_gaps` in this very transaction. */
  sealGaps(now: Moment): readonly Dropped[] {
    for (const [key, gap] of this.#gaps) {
      const isQuiet = now.monotonicMs - gap.extendedMs >= sealQuietMs;
      if (!isQuiet && now.monotonicMs - gap.openedMs < sealAgeMs) continue;
      const [stream = "", reason = ""] = key.split("\0");
      this.#due.push({ stream, from: gap.from, to: gap.to, reason });
      this.#gaps.delete(key);
      this.#db.prepare("DELETE FROM gap WHERE stream = ? AND reason = ?").run(stream, reason);
    }
    const due = this.#due;
    this.#due = [];
    return due;
  }

  /** After a rollback: what the file says is true again. */
  discard(): void {
    this.#dropped = [];
    this.#due = [];
    const kept = new Map(this.#gaps);
    this.#gaps.clear();
    for (const row of this.#db.prepare("SELECT * FROM gap").all() as GapRow[]) {
      const key = gapKey(row.stream, row.reason);
      const times = kept.get(key) ?? {
        openedMs: Number.NEGATIVE_INFINITY,
        extendedMs: Number.NEGATIVE_INFINITY,
      };
      this.#gaps.set(key, { ...times, from: row.from_seq, to: row.to_seq });
    }
  }
}

interface GapRow {
  readonly stream: string;
  readonly from_seq: number;
  readonly to_seq: number;
  readonly reason: string;
}

function gapKey(stream: string, reason: string): string {
  return `${stream}\0${reason}`;
}

/**
 * What a full disk does to the journal, in the worker.
 *
 *   roomy ── SQLite says FULL and the disk says so too ──► full ── the reserve is whole, as much again free ──► roomy
 *
 * full: the file is as large as it may be for now (`max_page_count`, and the retention's limits below that): sources
 * wait or the oldest goes, as `onFull` says, just as at `maxBytes`, and what is trimmed makes room inside the file.
 * Only the WAL needs the disk. It is emptied into the file, so that it is written from its beginning again in place,
 * and what it still lacks is cut off the reserve: for all that comes until half of it is gone, and the rest only for
 * units that bring nothing, cursors, trims and drops (`freeing`). What SQLite was given it keeps until there is room.
 *
 * SQLITE_FULL at `maxBytes` is `quota`, not this. ENOSPC and EDQUOT are this, `disk-full`. EIO in a write or sync is
 * `disk-failing` (worker.ts); EIO of a read SQLite calls corrupt, and the file is salvaged (page-file.ts).
 *
 * What a crash leaves: nothing new. A commit that found no room was rolled back; a checkpoint that found none has
 * moved some pages into the file, and the WAL still has all of them.
 */
import { statSync } from "node:fs";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { waitingBytesMax, waitingShare } from "./outbox.ts";
import type { DiskState, WorkerSetup } from "./protocol.ts";
import { isNoSpace, Reserve, wantedBytes, type DiskVerdict } from "./reserve.ts";
import type { Retention } from "./retention.ts";
import { isFull, pageBytesOf, sqliteCode, type Db } from "./sqlite.ts";

/** statfs(2) asks the kernel, not the card. */
const lookEveryMs = 1_000;
/** The reserve is cut in steps of this, or what is lacking if that is more: at 10 MB/s others take 25 ms for it. */
const stepBytes = 256 * 1024;
/** Pages that a turn touches beside what it brings, and that each of its units does. */
const turnOverheadBytes = 256 * 1024;
/** What brings something may use the reserve down to this share of it. */
const freeingShare = 1 / 2;

export class DiskRoom {
  readonly #setup: WorkerSetup;
  readonly #reserve: Reserve;
  readonly #monotonicMs: () => number;
  #db: Db | undefined;
  #retention: Retention | undefined;
  #quotaPages = 0;
  #walLimitBytes = 0;
  #isFull = false;
  /** The WAL was emptied in this turn. */
  #isFresh = false;
  #nextLookMs = 0;

  constructor(setup: WorkerSetup, monotonicMs: () => number) {
    this.#setup = setup;
    this.#monotonicMs = monotonicMs;
    this.#reserve = new Reserve(setup.path);
  }

  state(): DiskState {
    return {
      isFull: this.#isFull,
      reserveBytes: this.#reserve.bytes,
      neededBytes: this.#isFull ? quietly(() => this.#reserve.neededBytes(), 0) : 0,
    };
  }

  /**
   * Opens the file, with the help of the reserve where the disk is full.
   * @throws HoldfastError JOURNAL_FULL: there is no room at all, and nothing was opened; and whatever `open` throws
   */
  opening<T>(open: () => T): T {
    for (;;) {
      try {
        return open();
      } catch (error) {
        if (!this.isNoRoom(error)) throw error;
        this.#isFull = true;
        if (this.#reserve.give(stepBytes)) continue;
        throw new HoldfastError("JOURNAL_FULL", messageOf(error), { cause: error });
      }
    }
  }

  /** The file was opened, perhaps again. */
  attach(db: Db, retention: Retention): void {
    this.#db = db;
    this.#retention = retention;
    this.#quotaPages = db.pragma("max_page_count", { simple: true }) as number;
    this.#walLimitBytes = db.pragma("journal_size_limit", { simple: true }) as number;
    const walBytes =
      (db.pragma("wal_autocheckpoint", { simple: true }) as number) * pageBytesOf(db);
    const { maxBytes, fault } = this.#setup;
    const turnBytesMax = Math.min(waitingBytesMax, maxBytes * waitingShare);
    const wanted = wantedBytes(walBytes, turnBytesMax, maxBytes);
    this.#reserve.want(fault === "no-reserve" ? 0 : wanted);
    if (this.#isFull) this.#cap();
  }

  /** At the beginning of each turn. */
  upkeep(): void {
    this.#isFresh = false;
    const now = this.#monotonicMs();
    if (now < this.#nextLookMs) return;
    this.#nextLookMs = now + lookEveryMs;
    // A disk that cannot be asked tells that at the next write.
    if (quietly(() => this.#reserve.restore(), false) && this.#isFull) this.#leave();
  }

  /** After SQLITE_FULL. `bytes`: what the turn brings. True: something was done about it, try the same again. */
  widen(bytes: number, isFreeing: boolean): boolean {
    const isStillFull = this.#reserve.ask() === "full";
    if (!this.#isFull) {
      // A disk that has some room again since then was full all the same, where the quota was out of reach.
      if (!isStillFull && this.#mayReachQuota(bytes)) return false;
      this.#isFull = true;
      this.#emptyWal();
      this.#cap();
      return true;
    }
    if (!isStillFull) return false;
    if (!this.#isFresh) {
      this.#emptyWal();
      return true;
    }
    // The WAL has what the turn needs: it was the file that may not grow.
    const lacking = pagesBytesMax(bytes) - this.#walFileBytes();
    if (lacking <= 0) return false;
    const least = isFreeing ? 0 : this.#reserve.wholeBytes() * freeingShare;
    return this.#reserve.give(Math.max(stepBytes, lacking), least);
  }

  /** A user's quota of the disk: SQLite knows no EDQUOT, and calls a write that met it an I/O error. */
  isUsedUp(error: unknown): boolean {
    return sqliteCode(error) === "SQLITE_IOERR_WRITE" && this.ask() === "full";
  }

  /** No room on the disk, in whatever words SQLite or the operating system says it. */
  isNoRoom(error: unknown): boolean {
    const cause = error instanceof HoldfastError ? error.cause : error;
    if (isNoSpace(cause)) return true;
    return /^SQLITE_(FULL|CANTOPEN|IOERR)/.test(sqliteCode(cause)) && this.ask() === "full";
  }

  ask(): DiskVerdict {
    return this.#reserve.ask();
  }

  /** All that is in the WAL goes into the file, and the next commit begins it anew, in place. */
  #emptyWal(): void {
    this.#isFresh = true;
    for (;;) {
      try {
        this.#db?.pragma("wal_checkpoint(PASSIVE)");
        return;
      } catch (error) {
        if (!isFull(error)) throw error;
        if (!this.#reserve.give(stepBytes)) return;
      }
    }
  }

  #cap(): void {
    const db = this.#db as Db;
    const pages = db.pragma("page_count", { simple: true }) as number;
    db.pragma(`max_page_count = ${pages}`);
    // What the WAL has is not given back: others would take it.
    db.pragma("journal_size_limit = -1");
    this.#retention?.capAt(pages * pageBytesOf(db));
  }

  #leave(): void {
    this.#isFull = false;
    this.#db?.pragma(`max_page_count = ${this.#quotaPages}`);
    this.#db?.pragma(`journal_size_limit = ${this.#walLimitBytes}`);
    this.#retention?.capAt(Number.POSITIVE_INFINITY);
  }

  #mayReachQuota(bytes: number): boolean {
    const db = this.#db as Db;
    const pages = db.pragma("page_count", { simple: true }) as number;
    return pages + pagesBytesMax(bytes) / pageBytesOf(db) >= this.#quotaPages;
  }

  #walFileBytes(): number {
    return statSync(`${this.#setup.path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }
}

/** What the pages that a turn writes take at most, when it brings `bytes`. */
function pagesBytesMax(bytes: number): number {
  return bytes * 1.25 + turnOverheadBytes;
}

function quietly<T>(ask: () => T, otherwise: T): T {
  try {
    return ask();
  } catch {
    return otherwise;
  }
}

/**
 * Room held back on the disk beside the journal: `journal.db-reserve`, blocks that are taken and hold nothing. When
 * others have filled the disk it is cut shorter, in steps, and what is cut off goes to the WAL and the file: never
 * more than is needed just then, so that whoever filled the disk does not fill that too.
 *
 * How large (`wantedBytes`): a full disk finds the WAL with up to W bytes that are not in the file yet (SQLite's
 * checkpoint threshold and the largest turn T), of which all may lie behind the file's end. Moving them there takes
 * at most W; then the WAL is written from its beginning again, in place, and T fits into what it has. So W is what
 * cursors, trims and drops can ever need: 4 + 8 MiB for a journal of 64 MiB or more, less for a smaller one. On a
 * disk of less than 100 MiB it is an eighth of the disk.
 *
 * It is allocated by fallocate(1), which writes nothing (wear); where a file system cannot do that, by writing
 * bytes that do not compress, `writeBytesMax` a second. A copy of the file that lost its blocks counts for nothing.
 */
import { execFileSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  statfsSync,
  statSync,
  writeSync,
} from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";

/** Rows, b-tree pages and frame headers beside the bytes of a turn. */
const overheadBytes = 256 * 1024;
/** A disk of which this share is asked for has better use for it. */
const diskShareMax = 1 / 8;
/** More than two of SQLite's frames: what is free on a disk that refused one is less. */
const probeBytes = 3 * 4096;
/** A card that writes 10 MB/s takes 100 ms for it: no turn is late by more. Kept in `#lengthen`. */
const writeBytesMax = 1024 * 1024;
/** fallocate(1) takes some 3 ms; a disk that hangs must not hang the worker for good. */
const allocateTimeoutMs = 10_000;

export type DiskVerdict = "well" | "full" | "failing";

/** What a full disk may still have to take: see above. */
export function wantedBytes(walBytes: number, turnBytesMax: number, maxBytes: number): number {
  return Math.min(maxBytes, walBytes + turnBytesMax) + overheadBytes;
}

export class Reserve {
  readonly #path: string;
  readonly #folder: string;
  #wantedBytes = 0;
  #bytes: number;
  /** fallocate(1) is not there, or the file system knows no such thing. */
  #mustWrite = false;

  constructor(journalPath: string) {
    this.#path = `${journalPath}-reserve`;
    this.#folder = dirname(journalPath);
    this.#bytes = allocated(this.#path);
  }

  /** What it holds now. */
  get bytes(): number {
    return this.#bytes;
  }

  want(bytes: number): void {
    this.#wantedBytes = bytes;
  }

  /** What it holds when it is whole. */
  wholeBytes(): number {
    return this.#wantedOf(statfsSync(this.#folder));
  }

  /** How much must be free for the reserve to be made whole, with as much again beside it. */
  neededBytes(): number {
    const wanted = this.wholeBytes();
    return wanted + Math.max(0, wanted - this.#bytes) + overheadBytes;
  }

  /** Cuts `bytes` off, leaving `leastBytes`; false: there was nothing to cut off. */
  give(bytes: number, leastBytes = 0): boolean {
    // ftruncate(2) takes whole bytes.
    const left = Math.ceil(Math.max(leastBytes, this.#bytes - bytes, 0));
    if (left >= this.#bytes) return false;
    const file = openSync(this.#path, "r+");
    try {
      ftruncateSync(file, left);
      // ext4 gives the blocks to others only when its own journal has committed.
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    this.#bytes = left;
    return true;
  }

  /** True when it is whole and the disk has as much again; where the disk has room it goes on becoming so. */
  restore(): boolean {
    const disk = statfsSync(this.#folder);
    const wanted = this.#wantedOf(disk);
    const missing = Math.max(0, wanted - this.#bytes);
    if (disk.bavail * disk.bsize < wanted + missing + overheadBytes) return false;
    if (missing > 0) this.#lengthen(wanted);
    return this.#bytes >= wanted;
  }

  #wantedOf({ blocks, bsize }: { blocks: number; bsize: number }): number {
    // A tmpfs without a limit says 0.
    const share = blocks === 0 ? Number.POSITIVE_INFINITY : blocks * bsize * diskShareMax;
    return Math.floor(Math.min(this.#wantedBytes, share));
  }

  #lengthen(wanted: number): void {
    if (!this.#mustWrite) {
      try {
        const options = { stdio: "ignore", timeout: allocateTimeoutMs } as const;
        execFileSync("fallocate", ["-l", String(wanted), this.#path], options);
      } catch {
        this.#mustWrite = true;
      }
    } else {
      const file = openSync(this.#path, "a");
      try {
        const bytes = Buffer.alloc(Math.min(writeBytesMax, wanted - this.#bytes));
        writeSync(file, randomFillSync(bytes));
      } finally {
        closeSync(file);
      }
    }
    this.#bytes = allocated(this.#path);
  }

  /**
   * What the disk says to a small write: SQLite tells no errno, and calls several things full (the quota, the disk)
   * and several things an I/O error (a full disk under fsync or ftruncate, a failing one).
   */
  ask(): DiskVerdict {
    let file: number | undefined;
    try {
      file = openSync(this.#path, "a");
      const { size } = fstatSync(file);
      try {
        // At a place, as SQLite writes (pwrite), so that both are told the same.
        const probe = randomFillSync(Buffer.alloc(probeBytes));
        if (writeSync(file, probe, 0, probeBytes, size) < probeBytes) return "full";
        fsyncSync(file);
      } finally {
        ftruncateSync(file, size);
      }
      return "well";
    } catch (error) {
      return isNoSpace(error) ? "full" : "failing";
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }
}

/** errno(3): the disk has no room, or the user's quota on it has none. libuv has no name for the latter. */
export function isNoSpace(error: unknown): boolean {
  const { code, errno } = error instanceof Error ? (error as NodeJS.ErrnoException) : {};
  return code === "ENOSPC" || (errno !== undefined && -errno === constants.errno.EDQUOT);
}

/** A sparse file is none. */
function allocated(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? 0 : Math.min(found.size, found.blocks * 512);
}

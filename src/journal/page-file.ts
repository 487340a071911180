/**
 * The pages of an SQLite file, read without SQLite: for a file that it refuses. What the write-ahead log has
 * committed stands before what the file has (sqlite.org/fileformat2.html, 4). Nothing is written.
 *
 * A disk that refuses to give a page may be away for a moment (a loose card reader), or have lost a sector for good.
 * SQLite calls both damage (it takes EIO of a read for that: os_unix.c, SQLITE_IOERR_CORRUPTFS), so here it is asked
 * again: `refusalsMax` times in all, half a second apart. What it does not give then is gone.
 *
 * Memory: one entry for each page in the log.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** Together 20 s, whose end whoever waits for a turn sees once. Kept in `#refusalsLeft`. */
const refusalsMax = 40;
const againMs = 500;
const walHeaderBytes = 32;
const frameHeaderBytes = 24;
/** sqlite.org/fileformat2.html, 4.1: the lowest bit says in which order checksums read their words. */
const walMagic = 0x377f0682;

export class PageFile {
  readonly #file: number;
  readonly #wal: number | null;
  readonly #inWal = new Map<number, number>();
  #refusalsLeft = refusalsMax;
  readonly pageBytes: number;
  /** Whole pages, the log's too. */
  readonly pages: number;
  /** Frames that some commit covers. */
  readonly walFrames: number;

  constructor(path: string) {
    this.#file = openSync(path, "r");
    this.#wal = openIfThere(`${path}-wal`);
    this.pageBytes =
      pageSize(this.#file, 16, 2) ?? pageSize(this.#wal, 8, 4) ?? guessed(this.#file);
    const committed = this.#wal === null ? { frames: 0, pages: 0 } : this.#readWal(this.#wal);
    this.walFrames = committed.frames;
    const own = Math.floor(fstatSync(this.#file).size / this.pageBytes);
    this.pages = Math.max(own, ...this.#inWal.keys());
  }

  close(): void {
    closeSync(this.#file);
    if (this.#wal !== null) closeSync(this.#wal);
  }

  /** Pages count from 1; null: the file has no such page, or not all of it. */
  page(number: number): Buffer | null {
    const { pageBytes } = this;
    const page = Buffer.allocUnsafe(pageBytes);
    const at = this.#inWal.get(number);
    const file = at !== undefined && this.#wal !== null ? this.#wal : this.#file;
    const place = at ?? (number - 1) * pageBytes;
    for (;;) {
      try {
        return readSync(file, page, 0, pageBytes, place) === pageBytes ? page : null;
      } catch {
        if (this.#refusalsLeft === 0) return null;
        this.#refusalsLeft -= 1;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, againMs);
      }
    }
  }

  #readWal(wal: number): { frames: number; pages: number } {
    const header = Buffer.alloc(walHeaderBytes);
    const whole = { frames: 0, pages: 0 };
    if (readSync(wal, header, 0, walHeaderBytes, 0) < walHeaderBytes) return whole;
    if ((header.readUInt32BE(0) & ~1) >>> 0 !== walMagic) return whole;
    if (header.readUInt32BE(8) !== this.pageBytes) return whole;
    const isBig = (header.readUInt32BE(0) & 1) === 1;
    let sum = checksum([0, 0], header.subarray(0, 24), isBig);
    if (sum[0] !== header.readUInt32BE(24) || sum[1] !== header.readUInt32BE(28)) return whole;
    const frame = Buffer.alloc(frameHeaderBytes + this.pageBytes);
    let open: [number, number][] = [];
    for (let at = walHeaderBytes; ; at += frame.length) {
      if (readSync(wal, frame, 0, frame.length, at) < frame.length) return whole;
      // The salts of this round: what an earlier one left behind does not count.
      if (frame.compare(header, 16, 24, 8, 16) !== 0) return whole;
      sum = checksum(sum, frame.subarray(0, 8), isBig);
      sum = checksum(sum, frame.subarray(frameHeaderBytes), isBig);
      if (sum[0] !== frame.readUInt32BE(16) || sum[1] !== frame.readUInt32BE(20)) return whole;
      open.push([frame.readUInt32BE(0), at + frameHeaderBytes]);
      const pages = frame.readUInt32BE(4);
      if (pages === 0) continue;
      for (const [page, place] of open) this.#inWal.set(page, place);
      whole.frames += open.length;
      whole.pages = pages;
      open = [];
    }
  }
}

/** Ours, in the order of the format's versions. */
const pageSizes = [4096, 1024];

/** What the header of the file or its log says; null: nothing that we ever made. */
function pageSize(file: number | null, at: number, bytes: 2 | 4): number | null {
  const head = Buffer.alloc(bytes);
  if (file === null || readSync(file, head, 0, bytes, at) < bytes) return null;
  const size = head.readUIntBE(0, bytes);
  return pageSizes.includes(size) ? size : null;
}

/** By which size more pages begin as a b-tree's leaf does, in the first MiB. */
function guessed(file: number): number {
  const bytes = Buffer.alloc(Math.min(fstatSync(file).size, 1024 * 1024));
  readSync(file, bytes, 0, bytes.length, 0);
  const leavesOf = (size: number): number => {
    let found = 0;
    for (let at = size; at < bytes.length; at += size)
      if (bytes[at] === 0x0d || bytes[at] === 0x0a) found++;
    return found;
  };
  // With pages of 1,024 four times as many are found by that size as by 4,096, with those of 4,096 as many.
  return leavesOf(1024) > 2 * leavesOf(4096) ? 1024 : 4096;
}

function openIfThere(path: string): number | null {
  try {
    return openSync(path, "r");
  } catch {
    return null;
  }
}

function checksum(
  before: readonly [number, number],
  bytes: Buffer,
  isBig: boolean,
): [number, number] {
  let [a, b] = before;
  for (let at = 0; at < bytes.length; at += 8) {
    a = (a + (isBig ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at)) + b) >>> 0;
    b = (b + (isBig ? bytes.readUInt32BE(at + 4) : bytes.readUInt32LE(at + 4)) + a) >>> 0;
  }
  return [a, b];
}

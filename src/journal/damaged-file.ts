/**
 * A damaged journal is moved aside, never written: `journal.db.damaged-20261123T210000Z`, its write-ahead log beside
 * it. The order of the renames, and what a crash after each leaves:
 *
 *   1. journal.db.new is made, which names the damaged file and is complete  → nothing has happened; made again
 *   2. journal.db → journal.db.damaged-…                                     → `finishMove` goes on with 3
 *   3. journal.db-wal → journal.db.damaged-…-wal                             → `finishMove` goes on with 4
 *   4. journal.db.new → journal.db                                           → the salvage begins, or begins again
 *
 * Bound: `keptMax` damaged files are kept; the oldest goes when another comes. Kept in `forgetOldest`.
 */
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, readSync } from "node:fs";
import { renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";

/** Each may be as large as the journal: one for a second look, and one that is being salvaged. */
const keptMax = 2;
/** sqlite.org/fileformat2.html, 1.3. */
const headerBytes = 100;
const infix = ".damaged-";

/** It is ours, and no SQLite file that can be served any more. */
export class DamagedFile extends Error {
  readonly why: string;

  constructor(path: string, why: string) {
    super(`The journal ${path} is damaged: ${why}`);
    this.why = why;
  }
}

export function newPathOf(path: string): string {
  return `${path}.new`;
}

/** A name that no file has yet, and that sorts by time. */
export function damagedPathOf(path: string, wallMs: number): string {
  const stamp = new Date(wallMs).toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const wanted = `${path}${infix}${stamp}`;
  for (let nth = 1; ; nth++) {
    const name = nth === 1 ? wanted : `${wanted}-${nth}`;
    if (!existsSync(name)) return name;
  }
}

export function moveAside(path: string, damagedPath: string): void {
  renameSync(path, damagedPath);
  moveRest(path, damagedPath);
}

/** After a crash between the renames. */
export function finishMove(path: string): void {
  if (existsSync(path) || !existsSync(newPathOf(path))) return;
  const damagedPath = damagedFiles(path).at(-1);
  if (damagedPath !== undefined) moveRest(path, damagedPath);
}

function moveRest(path: string, damagedPath: string): void {
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${damagedPath}-wal`);
  renameSync(newPathOf(path), path);
  syncFolder(dirname(resolve(path)));
}

/** After a salvage: its own file stays, and one before it. */
export function forgetOldest(path: string): void {
  for (const old of damagedFiles(path).slice(0, -keptMax)) {
    rmSync(old, { force: true });
    rmSync(`${old}-wal`, { force: true });
  }
}

function damagedFiles(path: string): string[] {
  const folder = dirname(resolve(path));
  return readdirSync(folder)
    .filter((name) => name.startsWith(`${basename(path)}${infix}`) && !name.endsWith("-wal"))
    .toSorted()
    .map((name) => resolve(folder, name));
}

/**
 * Why the file in the journal's place is no whole SQLite file; null: its beginning looks like one. A power cut
 * leaves empty, cut and all-zero files (a journal's first pages are written once, and never by another program).
 */
export function damageOf(path: string, head: Buffer): string | null {
  if (head.length === 0) return hasWal(path) ? "the file is empty" : null;
  if (head.length < headerBytes) return `the file is cut after ${head.length} bytes`;
  if (head.subarray(0, headerBytes).every((byte) => byte === 0))
    return "the file begins with zeros";
  return null;
}

/** Whether there is a log beside it with anything in it. */
export function hasWal(path: string): boolean {
  return (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
}

/** Its first bytes, as many as it has of `bytes`. */
export function headOf(path: string, bytes: number): Buffer {
  const head = Buffer.alloc(bytes);
  const file = openSync(path, "r");
  try {
    return head.subarray(0, readSync(file, head, 0, bytes, 0));
  } finally {
    closeSync(file);
  }
}

/** fsync(2): a new directory entry is durable only when its folder was synced. */
export function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

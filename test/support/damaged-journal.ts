/** Journals as they lie on disk, and ways to damage them that a seed repeats. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Journal } from "../../src/journal/journal.ts";

const pageBytes = 4096;
/** Same seed, same numbers (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** As the process's death would leave it: the file and its log. */
export function copyJournal(from: string, to: string): void {
  copyFileSync(from, to);
  if (existsSync(`${from}-wal`)) copyFileSync(`${from}-wal`, `${to}-wal`);
}

export const damageKinds = [
  "cut",
  "zeroed pages",
  "flipped bits",
  "bits of the header",
  "wal lost",
  "wal cut",
  "zero file",
] as const;
export type DamageKind = (typeof damageKinds)[number];

/** The version's four bytes (offset 60) are spared: changed, they name a file from the future. */
export function damage(path: string, kind: DamageKind, random: () => number): void {
  const bytes = readFileSync(path);
  const wal = existsSync(`${path}-wal`) ? readFileSync(`${path}-wal`) : Buffer.alloc(0);
  const at = (length: number): number => Math.floor(random() * length);
  if (kind === "wal lost") writeFileSync(`${path}-wal`, "");
  else if (kind === "wal cut") writeFileSync(`${path}-wal`, wal.subarray(0, at(wal.length)));
  else if (kind === "cut") writeFileSync(path, bytes.subarray(0, at(bytes.length)));
  else {
    if (kind === "zero file") bytes.fill(0);
    for (let nth = 0; nth < 1 + at(4); nth++) {
      if (kind === "zeroed pages") {
        const page = at(bytes.length / pageBytes) * pageBytes;
        bytes.fill(0, page, page + pageBytes);
      }
      const place = kind === "bits of the header" ? at(100) : at(bytes.length);
      if (!/bits/.test(kind) || (place >= 60 && place < 64)) continue;
      bytes[place] = (bytes[place] ?? 0) ^ (1 << at(8));
    }
    writeFileSync(path, bytes);
  }
}

/** What a reader gets that goes from event to event, and past what is not there. */
export async function everything(
  journal: Journal,
  stream: string,
): Promise<{ seq: number; text: string }[]> {
  const found: { seq: number; text: string }[] = [];
  for (let after = 0; ;) {
    const { events, first, head } = await journal.read(stream, after, 500, 1 << 20);
    for (const { seq, payload } of events)
      found.push({ seq, text: Buffer.from(payload).toString() });
    const next = events.at(-1)?.seq ?? first - 1;
    if (next <= after || after >= head) return found;
    after = next;
  }
}

/** Changes the first byte of `payload`, which is stored as it is: alone in its chunk, and too short to compress. */
export function spoil(path: string, payload: string): void {
  const bytes = readFileSync(path);
  const place = bytes.indexOf(payload);
  assert.ok(place > 0, `${payload} is in ${path}`);
  bytes[place] = 0;
  writeFileSync(path, bytes);
}

/**
 * Which entries of a stream are dealt with, as ranges of IDs: never one high-water mark, since an entry that failed in
 * the middle comes back, and is not to be taken for one that was dealt with.
 *
 * An ID is two unsigned 64-bit numbers; here it is one of 128 bits, `ms << 64 | n`, so that ranges are compared, and
 * found to touch, as numbers.
 */
import type { GroupProgress } from "./state.ts";

export interface IdRange {
  readonly first: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

export function idNumber(id: string): bigint {
  const [ms = "0", n = "0"] = id.split("-");
  return (BigInt(ms) << 64n) | BigInt(n);
}

/** Sorted, with those that overlap or touch made one. */
export function union(ranges: readonly IdRange[]): IdRange[] {
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const merged: { first: bigint; last: bigint }[] = [];
  for (const { first, last } of sorted) {
    const open = merged.at(-1);
    if (open !== undefined && first <= open.last + 1n) {
      if (last > open.last) open.last = last;
    } else merged.push({ first, last });
  }
  return merged;
}

/** What is dealt with by the group's own account: all up to the last handed out that is not pending. */
export function passed({ lastDelivered, pending }: GroupProgress): IdRange[] {
  const ranges: IdRange[] = [];
  let first = 0n;
  const end = idNumber(lastDelivered);
  for (const id of pending.map(idNumber).sort((a, b) => (a < b ? -1 : 1))) {
    if (id > end) break;
    if (id > first) ranges.push({ first, last: id - 1n });
    first = id + 1n;
  }
  if (first <= end) ranges.push({ first, last: end });
  return ranges;
}

/** What of the ranges lies before `from`. */
export function before(ranges: readonly IdRange[], from: bigint): IdRange[] {
  return ranges
    .filter(({ first }) => first < from)
    .map(({ first, last }) => ({ first, last: last < from ? last : from - 1n }));
}

/** Whether a sorted list of ranges that do not overlap holds `id`. */
export function holds(ranges: readonly IdRange[], id: bigint): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as IdRange).first <= id) low = middle + 1;
    else high = middle;
  }
  const found = ranges[low - 1];
  return found !== undefined && found.last >= id;
}

/** Sixteen bytes, the largest first: stores compare blobs as memcmp does. */
export function blobOf(id: bigint): Buffer {
  const blob = Buffer.allocUnsafe(16);
  blob.writeBigUInt64BE(id >> 64n, 0);
  blob.writeBigUInt64BE(id & 0xffff_ffff_ffff_ffffn, 8);
  return blob;
}

export function numberOf(blob: Buffer): bigint {
  return (blob.readBigUInt64BE(0) << 64n) | blob.readBigUInt64BE(8);
}

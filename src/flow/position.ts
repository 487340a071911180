/**
 * How far a sink has come in one stream: everything up to `seq`, and beyond it the ranges that a lane for fresh events
 * has delivered already, while the backlog before them drains.
 *
 * It lies in the cursor's row: `seq` as its seq, ranges and the sink's own mark in its mark, `~RANGES|MARK`. RANGES are
 * pairs of base 36: how far a range begins behind the one before it, and how long it is.
 *
 * Bound: `rangesMax` ranges, at most 20 letters each, beside a sink's mark of at most 640 bytes: 1 KiB in all.
 */
import assert from "node:assert/strict";
import type { Cursor } from "../journal/journal.ts";

export interface Range {
  readonly from: number;
  readonly to: number;
}

export interface Position {
  readonly seq: number;
  /** Ascending, apart from each other and from `seq`. */
  readonly ranges: readonly Range[];
  /** The sink's own. */
  readonly mark: string | null;
}

/** So often may an outage interrupt a backlog's draining; then fresh events wait behind what came before them. */
export const rangesMax = 16;

const sign = "~";

/** Everything behind `after` up to `to` is done with as well. */
export function settled(position: Position, after: number, to: number): Position {
  if (to <= after) return position;
  let joined: Range = { from: after + 1, to };
  let { seq } = position;
  const ranges: Range[] = [];
  for (const range of position.ranges) {
    if (range.to + 1 < joined.from || range.from > joined.to + 1) ranges.push(range);
    else {
      joined = { from: Math.min(range.from, joined.from), to: Math.max(range.to, joined.to) };
    }
  }
  if (joined.from <= seq + 1) seq = Math.max(seq, joined.to);
  else ranges.push(joined);
  const above = ranges.filter((range) => range.to > seq).toSorted((a, b) => a.from - b.from);
  // A range that now touches it is passed as well.
  const next = above[0];
  if (next !== undefined && next.from <= seq + 1)
    return { ...position, seq: next.to, ranges: above.slice(1) };
  return { ...position, seq, ranges: above };
}

/** The next stretch behind `read` that is not done with, up to `bound`; null: there is none. */
export function nextOpen(
  { seq, ranges }: Position,
  read: number,
  bound: number,
): { readonly after: number; readonly to: number } | null {
  let after = Math.max(read, seq);
  let to = bound;
  for (const range of ranges) {
    if (range.to <= after) continue;
    if (range.from <= after + 1) after = range.to;
    else {
      to = Math.min(to, range.from - 1);
      break;
    }
  }
  return after < to ? { after, to } : null;
}

/** How many seqs beyond `seq` are done with. */
export function settledBeyond({ ranges }: Position): number {
  return ranges.reduce((sum, { from, to }) => sum + to - from + 1, 0);
}

export function toMark({ seq, ranges, mark }: Position): string | null {
  if (ranges.length === 0) return mark;
  let before = seq;
  const pairs = ranges.map(({ from, to }) => {
    const pair = `${(from - before).toString(36)}.${(to - from).toString(36)}`;
    before = to;
    return pair;
  });
  assert.ok(pairs.length <= rangesMax, "A position of too many ranges");
  return `${sign}${pairs.join(",")}|${mark ?? ""}`;
}

export function fromCursor({ seq, mark }: Cursor): Position {
  if (mark?.startsWith(sign) !== true) return { seq, ranges: [], mark };
  const end = mark.indexOf("|");
  let before = seq;
  const ranges = mark
    .slice(1, end)
    .split(",")
    .map((pair) => {
      const [gap = 0, length = 0] = pair.split(".").map((digits) => Number.parseInt(digits, 36));
      const range = { from: before + gap, to: before + gap + length };
      before = range.to;
      return range;
    });
  return { seq, ranges, mark: mark.slice(end + 1) || null };
}

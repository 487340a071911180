/** A sink's position of a seq and ranges, against a plain set of seqs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  fromCursor,
  nextOpen,
  rangesMax,
  settled,
  settledBeyond,
  toMark,
  type Position,
} from "../../src/flow/position.ts";
import { range } from "../support/archive-names.ts";

const begin: Position = { seq: 0, ranges: [], mark: null };
const stretch = fc
  .tuple(fc.nat(60), fc.nat(8))
  .map(([after, count]) => ({ after, to: after + count }));

function check(position: Position, done: ReadonlySet<number>): void {
  const { seq, ranges } = position;
  assert.ok(range(1, seq).every((each) => done.has(each)) && !done.has(seq + 1));
  const beyond = ranges.flatMap(({ from, to }) => range(from, to));
  assert.deepEqual(
    beyond,
    [...done].filter((each) => each > seq).toSorted((a, b) => a - b),
  );
  let before = seq;
  for (const { from, to } of ranges) {
    assert.ok(from > before + 1 && to >= from, "apart and ascending");
    before = to;
  }
  assert.equal(settledBeyond(position), beyond.length);
}

function isSetOfSeqs(settle: typeof settled) {
  return fc.property(fc.array(stretch, { maxLength: 30 }), (stretches) => {
    const done = new Set<number>();
    let position = begin;
    for (const { after, to } of stretches) {
      position = settle(position, after, to);
      for (const seq of range(after + 1, to)) done.add(seq);
      check(position, done);
    }
  });
}

test("settled() is a set of seqs, whatever the order", () => {
  fc.assert(isSetOfSeqs(settled));
});

test("the property sees a high-water mark in place of ranges", () => {
  const highWater = (position: Position, _after: number, to: number): Position => ({
    ...position,
    seq: Math.max(position.seq, to),
  });
  assert.throws(() => fc.assert(isSetOfSeqs(highWater)));
});

test("a position survives its cursor's row, with the sink's own mark", () => {
  const mark = fc.option(
    fc.string({ minLength: 1 }).filter((text) => !text.startsWith("~")),
    { nil: null },
  );
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: rangesMax }), mark, (stretches, own) => {
      const position = stretches.reduce<Position>((sum, { after, to }) => settled(sum, after, to), {
        ...begin,
        mark: own,
      });
      const stored = toMark(position);
      assert.deepEqual(fromCursor({ seq: position.seq, mark: stored }), position);
    }),
  );
});

test("the longest mark is within the journal's 1 KiB", () => {
  let position: Position = { ...begin, mark: "m".repeat(640) };
  const far = 2 ** 40;
  for (let index = 1; index <= rangesMax; index++)
    position = settled(position, index * 2 * far, index * 2 * far + far);
  assert.equal(position.ranges.length, rangesMax);
  assert.ok((toMark(position) ?? "").length <= 1024, `${toMark(position)?.length}`);
});

test("nextOpen() walks through exactly what is not done with", () => {
  fc.assert(
    fc.property(fc.array(stretch, { maxLength: 10 }), fc.nat(80), (stretches, bound) => {
      const position = stretches.reduce((sum, { after, to }) => settled(sum, after, to), begin);
      const done = new Set(stretches.flatMap(({ after, to }) => range(after + 1, to)));
      const walked: number[] = [];
      for (let read = 0; ;) {
        const open = nextOpen(position, read, bound);
        if (open === null) break;
        walked.push(...range(open.after + 1, open.to));
        read = open.to;
      }
      assert.deepEqual(
        walked,
        range(1, bound).filter((seq) => !done.has(seq)),
      );
    }),
  );
});

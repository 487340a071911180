import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  centroidsMax,
  digestWith,
  emptyDigest,
  exactMax,
  mergedDigests,
  percentileOf,
  type Digest,
} from "../../src/processor/digest.ts";

const digestOf = (values: readonly number[]): Digest => values.reduce(digestWith, emptyDigest);
const shares = [0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1];

/** How far the answer's rank is from the one that was asked for, as a share. */
function rankError(values: readonly number[], share: number, answer: number): number {
  const below = values.filter((value) => value < answer).length / values.length;
  const upTo = values.filter((value) => value <= answer).length / values.length;
  return share < below ? below - share : share > upTo ? share - upTo : 0;
}

/** As sensors give them: about a value, in steps, with far outliers, sorted. */
const kinds: Readonly<Record<string, (index: number) => number>> = {
  uniform: (index) => (index * 7919) % 10_007,
  "close to 1013": (index) => 1013 + Math.sin(index) * 0.01,
  ascending: (index) => index,
  descending: (index) => 20_000 - index,
  steps: (index) => index % 3,
  outliers: (index) => (index % 100 === 0 ? 1e9 : (index % 17) + index * 1e-5),
};

test("percentileOf() is exact up to 128 numbers, whatever their order", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -1000, max: 1000 }), { maxLength: exactMax }),
      (list) => {
        const sorted = list.toSorted((a, b) => a - b);
        const middle = sorted.length / 2;
        const median =
          sorted.length === 0
            ? null
            : ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
        assert.equal(percentileOf(digestOf(list), 0.5), median);
      },
    ),
  );
});

test("percentileOf() is off by 2 % of the ranks at most among 20,000 numbers, and digests keep their bound", () => {
  for (const [name, valueAt] of Object.entries(kinds)) {
    const values = Array.from({ length: 20_000 }, (_, index) => valueAt(index));
    const digest = digestOf(values);
    const half = mergedDigests(digestOf(values.slice(0, 9_000)), digestOf(values.slice(9_000)));
    for (const each of [digest, half]) {
      assert.ok(each.c.length <= 2 * (centroidsMax + 1), `${name}: ${each.c.length / 2} centroids`);
      assert.ok(each.b.length <= exactMax);
      for (const share of shares) {
        const answer = percentileOf(each, share) ?? Number.NaN;
        const error = rankError(values, share, answer);
        assert.ok(error <= 0.02, `${name}, p${share * 100}: ${answer} is off by ${error}`);
      }
    }
    assert.equal(percentileOf(digest, 0), Math.min(...values));
    assert.equal(percentileOf(digest, 1), Math.max(...values));
  }
});

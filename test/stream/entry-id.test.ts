/** IDs are two numbers; as text they sort otherwise. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareIds, idBefore, idMs } from "../../src/stream/entry-id.ts";

test("compareIds() compares numbers: 999-9 before 1000-0, sequence 9 before 10", () => {
  const ids = ["0-0", "0-1", "999-9", "999-10", "1000-0", "1000-2", "1000-10", "10000-0"];
  const shuffled = ids.toSorted();
  assert.notDeepEqual(shuffled, ids);
  assert.deepEqual(shuffled.sort(compareIds), ids);
  assert.equal(compareIds("5", "5-0"), 0);
});

const largest = (1n << 64n) - 1n;
const part = fc.oneof(
  fc.bigInt({ min: 0n, max: 20n }),
  fc.bigInt({ min: (1n << 53n) - 2n, max: (1n << 53n) + 2n }),
  fc.bigInt({ min: 0n, max: largest }),
);
const id = fc.tuple(part, part);

test("compareIds() is exact for all that a server takes, and idBefore() is the neighbour", () => {
  fc.assert(
    fc.property(id, id, ([aMs, aN], [bMs, bN]) => {
      const expected = aMs === bMs ? (aN < bN ? -1 : aN > bN ? 1 : 0) : aMs < bMs ? -1 : 1;
      assert.equal(Math.sign(compareIds(`${aMs}-${aN}`, `${bMs}-${bN}`)), expected);
      const before = idBefore(`${aMs}-${aN}`);
      const [ms, n] = before.split("-").map(BigInt) as [bigint, bigint];
      const place = (x: bigint, y: bigint): bigint => x * (largest + 1n) + y;
      const at = place(aMs, aN);
      assert.equal(place(ms, n), at === 0n ? 0n : at - 1n);
    }),
  );
  assert.equal(idMs("1700000000000-12"), 1_700_000_000_000);
});

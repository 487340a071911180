import assert from "node:assert/strict";
import { test } from "node:test";
import { FillRate } from "../../src/flow/fill-rate.ts";

test("secondsUntil() goes by the last ten minutes; what does not grow is never full", () => {
  const fill = new FillRate();
  assert.equal(fill.secondsUntil(1_000_000), null);
  assert.ok(fill.isDue(0));
  fill.sample(0, 500_000);
  assert.ok(!fill.isDue(9_999));
  assert.equal(fill.secondsUntil(1_000_000), null);
  for (let second = 10; second <= 600; second += 10) fill.sample(second * 1000, 500_000);
  assert.equal(fill.secondsUntil(1_000_000), null);
  // 100 bytes a second from here on.
  for (let second = 610; second <= 1_200; second += 10)
    fill.sample(second * 1000, 500_000 + (second - 600) * 100);
  assert.equal(fill.secondsUntil(1_000_000), (1_000_000 - 560_000) / 100);
  fill.sample(1_210_000, 2_000_000);
  assert.equal(fill.secondsUntil(1_000_000), 0);
});

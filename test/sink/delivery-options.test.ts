import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesPerSecond, minutesOf } from "../../src/sink/delivery-options.ts";

test("bytesPerSecond() and minutesOf() read what has passed its pattern", () => {
  assert.equal(bytesPerSecond("200KiB/s"), 204_800);
  assert.equal(bytesPerSecond("1.5 MiB/s"), 1_572_864);
  assert.deepEqual(minutesOf("22:00-06:30"), { from: 1_320, to: 390 });
});

import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Reserve } from "../../src/journal/reserve.ts";
import { tempDir } from "../support/temp-dir.ts";

test("give() cuts off what is asked for, in whole bytes, and no more than there is", (t) => {
  const path = join(tempDir(t), "journal.db");
  writeFileSync(`${path}-reserve`, Buffer.alloc(100_000, 1));
  const reserve = new Reserve(path);
  assert.equal(reserve.bytes, 100_000);
  // A turn's bytes and a quarter of them are rarely a whole number.
  assert.equal(reserve.give(1_000.25), true);
  assert.equal(statSync(`${path}-reserve`).size, 99_000);
  assert.equal(reserve.give(90_000, 50_000), true);
  assert.equal(reserve.bytes, 50_000);
  assert.equal(reserve.give(1, 50_000), false);
  assert.equal(reserve.give(1_000_000), true);
  assert.equal(reserve.bytes, 0);
  assert.equal(reserve.give(1), false);
});

import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Gaps } from "../../src/journal/gaps.ts";
import type { Moment } from "../../src/journal/protocol.ts";
import { openDatabase, type Db } from "../../src/journal/sqlite.ts";
import { tempDir } from "../support/temp-dir.ts";

const at = (monotonicMs: number): Moment => ({ wallMs: 0, monotonicMs, clock: "synced" });
const gap = (from: number, to: number, reason = "quota", kept = 0) => ({
  stream: "s",
  from,
  to,
  kept,
  reason,
});

function openDb(t: TestContext): Db {
  const path = join(tempDir(t), "journal.db");
  const db = openDatabase({ path, synchronous: "OFF", maxBytes: 1 << 20 });
  t.after(() => db.close());
  return db;
}

test("takeDue() gives adjacent ranges of one reason as one, with what was kept, once they are quiet for 10 s", (t) => {
  const gaps = new Gaps(openDb(t));
  gaps.note(gap(1, 100, "thinned", 7), at(0));
  gaps.note(gap(101, 300, "thinned", 5), at(5_000));
  assert.deepEqual(gaps.takeDue(at(14_999)), []);
  assert.deepEqual(gaps.takeDue(at(15_000)), [gap(1, 300, "thinned", 12)]);
  assert.deepEqual(gaps.takeDue(at(99_000)), []);
});

test("takeDue() gives a range that goes on growing after 60 s, and one that another follows apart at once", (t) => {
  const gaps = new Gaps(openDb(t));
  for (let second = 0; second < 60; second += 5)
    gaps.note(gap(second + 1, second + 5), at(second * 1000));
  assert.deepEqual(gaps.takeDue(at(59_999)), []);
  assert.deepEqual(gaps.takeDue(at(60_000)), [gap(1, 60)]);
  gaps.note(gap(61, 70), at(60_000));
  gaps.note(gap(80, 90), at(60_000));
  assert.deepEqual(gaps.takeDue(at(60_001)), [gap(61, 70)]);
});

test("what is dropped of a range that was thinned is told after the thinning", (t) => {
  const gaps = new Gaps(openDb(t));
  gaps.note(gap(1, 100, "thinned", 9), at(0));
  gaps.note(gap(1, 50), at(1));
  gaps.note(gap(101, 200, "thinned", 9), at(2));
  assert.deepEqual(gaps.takeDue(at(3)), [gap(1, 100, "thinned", 9)]);
  const rest = gaps.takeDue(at(90_000));
  assert.deepEqual(rest, [gap(1, 50), gap(101, 200, "thinned", 9)]);
});

test("discard() goes back to what the file says, and a new run gives at once what an earlier one left", (t) => {
  const db = openDb(t);
  const gaps = new Gaps(db);
  gaps.note(gap(1, 10), at(0));
  db.exec("BEGIN");
  gaps.note(gap(11, 20), at(1));
  gaps.note(gap(40, 50), at(1));
  db.exec("ROLLBACK");
  gaps.discard();
  assert.deepEqual(gaps.takeDue(at(9_999)), []);
  assert.deepEqual(new Gaps(db).takeDue(at(9_999)), [gap(1, 10)]);
});

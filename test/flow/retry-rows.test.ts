import assert from "node:assert/strict";
import { test } from "node:test";
import { RetryRows, retryBytesMax } from "../../src/flow/retry-rows.ts";
import type { RetryRow } from "../../src/journal/journal.ts";
import { storedEvent } from "../support/stored-event.ts";

function row(seq: number, key: string | null, given: Partial<RetryRow> = {}): RetryRow {
  const event = storedEvent({ seq, key });
  return { event, attempts: 1, dueAt: 0, firstFailedAt: 0, error: "No", ...given };
}

const seqs = (rows: readonly RetryRow[]): number[] => rows.map(({ event }) => event.seq);

test("due() gives a head when its time has come, and right after it what waits behind it", () => {
  const rows = new RetryRows(true);
  rows.put(row(1, "a"), 1000);
  rows.put(row(2, "b"), 500);
  rows.put(row(3, "a", { attempts: 0 }), 0);
  assert.equal(rows.nextDueMs(), 500);
  assert.deepEqual(seqs(rows.due(499, 10)), []);
  assert.deepEqual(seqs(rows.due(500, 10)), [2]);
  assert.deepEqual(seqs(rows.due(1000, 10)), [2, 1, 3]);
  assert.deepEqual(seqs(rows.due(1000, 2)), [2, 1]);
});

test("due() gives rows of one stream at a time", () => {
  const rows = new RetryRows(true);
  rows.put(row(1, "a"), 20);
  const other = storedEvent({ stream: "other", seq: 1, key: "a" });
  rows.put({ ...row(1, "a"), event: other }, 10);
  assert.deepEqual(
    rows.due(100, 10).map(({ event }) => event.stream),
    ["other"],
  );
});

test("holds() is true for the key of a row with order key, and for no other event", () => {
  const rows = new RetryRows(true);
  rows.put(row(1, "a"), 0);
  rows.put(row(2, null), 0);
  assert.equal(rows.holds(storedEvent({ seq: 9, key: "a" })), true);
  assert.equal(rows.holds(storedEvent({ seq: 9, key: "b" })), false);
  assert.equal(rows.holds(storedEvent({ seq: 9, key: null })), false);
  assert.equal(rows.holds(storedEvent({ stream: "other", seq: 9, key: "a" })), false);
  const unordered = new RetryRows(false);
  unordered.put(row(1, "a"), 0);
  assert.equal(unordered.holds(storedEvent({ seq: 9, key: "a" })), false);
});

test("remove() makes what waited behind a head due at once", () => {
  const rows = new RetryRows(true);
  rows.put(row(1, "a"), 60_000);
  rows.put(row(2, "a", { attempts: 0 }), 0);
  rows.remove(storedEvent({ seq: 1, key: "a" }), 70);
  assert.equal(rows.nextDueMs(), 70);
  assert.deepEqual(seqs(rows.due(70, 10)), [2]);
  rows.remove(storedEvent({ seq: 2, key: "a" }), 80);
  assert.equal(rows.nextDueMs(), null);
  assert.equal(rows.count, 0);
});

test("hasRoom() is false at the bound of rows and at the bound of bytes", () => {
  const rows = new RetryRows(true, 3);
  for (let seq = 1; seq <= 3; seq++) {
    assert.equal(rows.hasRoom(), true);
    rows.put(row(seq, null), 0);
  }
  assert.equal(rows.hasRoom(), false);
  rows.put(row(2, null, { attempts: 2 }), 0);
  assert.equal(rows.count, 3);
  const large = new RetryRows(true);
  const event = storedEvent({ payload: new Uint8Array(retryBytesMax) });
  large.put({ ...row(1, null), event }, 0);
  assert.equal(large.hasRoom(), false);
  large.remove(event, 0);
  assert.equal(large.hasRoom(), true);
});

test("load() trusts a due time no further than the longest delay: the wall clock may have lied", () => {
  const rows = new RetryRows(true);
  const yearMs = 365 * 86_400_000;
  rows.load([row(5, "a", { dueAt: yearMs }), row(4, "b", { dueAt: -yearMs })], 0, 10, 60_000);
  assert.equal(rows.nextDueMs(), 10);
  assert.deepEqual(seqs(rows.due(60_010, 10)), [4, 5]);
});

test("load() puts each key's rows in the order of their seq", () => {
  const rows = new RetryRows(true);
  rows.load([row(9, "a", { attempts: 0 }), row(3, "a"), row(6, "a", { attempts: 0 })], 0, 0, 1);
  assert.deepEqual(seqs(rows.due(1, 10)), [3, 6, 9]);
});

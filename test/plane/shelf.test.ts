import assert from "node:assert/strict";
import { test } from "node:test";
import { Shelf } from "../../src/plane/shelf.ts";

test("over() takes what groups have passed first, the oldest of it first", () => {
  const passed: Record<string, number> = { slow: 0, fast: 100 };
  const shelf = new Shelf(1_000, (stream) => passed[stream] ?? Number.POSITIVE_INFINITY);
  shelf.put("slow", 10, 300);
  shelf.put("fast", 50, 300);
  shelf.put("unread", 7, 300);
  assert.deepEqual(shelf.over(), new Map());
  shelf.put("fast", 100, 300);
  assert.deepEqual(shelf.over(), new Map([["fast", 50]]));
  shelf.put("slow", 20, 500);
  assert.deepEqual(
    shelf.over(),
    new Map([
      ["unread", 7],
      ["fast", 100],
    ]),
  );
  shelf.put("slow", 30, 400);
  assert.deepEqual(shelf.over(), new Map([["slow", 10]]), "then what somebody still needs");
});

test("halve() makes the budget half of what is there, and it grows again", () => {
  const shelf = new Shelf(1_000, () => Number.POSITIVE_INFINITY);
  for (let seq = 1; seq <= 80; seq++) shelf.put("a", seq, 10);
  assert.deepEqual(shelf.halve(), new Map([["a", 40]]));
  shelf.put("a", 81, 10);
  assert.ok(shelf.over().size > 0);
  let gone = 0;
  for (let seq = 82; seq < 600; seq++) {
    shelf.put("a", seq, 10);
    gone = shelf.over().get("a") ?? gone;
  }
  assert.ok(599 - gone > 90, "room for nearly all again");
});

test("put() keeps few runs, however small the appends and many the streams", () => {
  const shelf = new Shelf(1_000_000, () => 0);
  const before = process.memoryUsage().heapUsed;
  for (let seq = 1; seq <= 200_000; seq++) {
    shelf.put(`s${seq % 10}`, seq, 100);
    shelf.over();
  }
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 40_000_000, `${grown}`);
  assert.equal(shelf.holds("s3"), true);
  shelf.forget("s3");
  assert.equal(shelf.holds("s3"), false);
  shelf.clear();
  assert.equal(shelf.holds("s1"), false);
});

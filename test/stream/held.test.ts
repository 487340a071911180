import assert from "node:assert/strict";
import { test } from "node:test";
import { Held, type HeldEntry } from "../../src/stream/held.ts";

const entry = (id: number, key: string, over: Partial<HeldEntry> = {}): HeldEntry => ({
  id: `${id}-0`,
  incarnation: "one",
  fields: [],
  deliveries: 1,
  failures: 0,
  item: { event: { key } } as HeldEntry["item"],
  unfit: null,
  dueMs: 0,
  isRunning: false,
  firstMs: null,
  ...over,
});
const idsOf = (entries: readonly HeldEntry[]): string[] => entries.map(({ id }) => id);

function heldWith(...entries: readonly HeldEntry[]): Held {
  const held = new Held(true);
  for (const each of entries) held.add(each);
  return held;
}

test("Held.next() has nothing overtake an event of its key that runs or waits", () => {
  const held = heldWith(entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "b"));
  const [first] = held.next(0, 1);
  assert.equal(first?.id, "1-0");
  assert.deepEqual(idsOf(held.next(0, 10)), ["2-0", "4-0"]);
  assert.ok(first !== undefined);
  Object.assign(first, { isRunning: false, failures: 1, dueMs: 50 });
  assert.deepEqual(held.next(49, 10), []);
  assert.deepEqual(idsOf(held.next(50, 10)), ["1-0", "3-0"]);
});

test("Held.reset() holds nothing, in the order in which it is given again", () => {
  const held = heldWith(entry(2, "a"), entry(1, "a"));
  held.reset();
  assert.deepEqual([held.next(0, 10), held.counts()], [[], { fresh: 0, waiting: 0 }]);
  held.add(entry(1, "a"));
  assert.deepEqual(idsOf(held.next(0, 1)), ["1-0"]);
  held.add(entry(2, "a"));
  assert.deepEqual(held.next(0, 10), []);
});

test("Held.reset() keeps what runs under way, and what is given again of it is not run beside itself", () => {
  const held = heldWith(entry(1, "a"), entry(2, "a"), entry(3, "b"));
  const batch = held.next(0, 2);
  held.reset();
  held.reset();
  assert.deepEqual(held.underWay(), ["1-0", "2-0"]);
  held.add(entry(1, "a"));
  assert.deepEqual([held.has("1-0"), held.has("2-0"), held.has("3-0")], [true, false, false]);
  assert.deepEqual(held.next(0, 10), []);
  // Its batch has ended: it failed, and the one behind it was not begun.
  Object.assign(batch[0] as HeldEntry, { isRunning: false, failures: 1, dueMs: 50 });
  Object.assign(batch[1] as HeldEntry, { isRunning: false });
  assert.deepEqual([held.next(0, 10), held.underWay()], [[], []]);
  held.add(entry(2, "a"));
  assert.deepEqual([held.next(49, 10), held.nextDueMs()], [[], 50]);
  assert.deepEqual(idsOf(held.next(50, 10)), ["1-0", "2-0"]);
});

test("Held.settle() of what runs is known until the next read, also after a reset", () => {
  const held = heldWith(entry(1, "a"));
  held.watch();
  held.next(0, 1);
  held.reset();
  held.settle("1-0");
  assert.deepEqual([held.knows("1-0", "one"), held.knows("1-0", "two")], [true, false]);
  held.watch();
  assert.equal(held.knows("1-0", "one"), false);
});

test("Held.add() takes the server's count of failures, and keeps when what was held before is due", () => {
  const held = heldWith(entry(1, "a", { failures: 1, dueMs: 50, firstMs: 7 }), entry(2, "b"));
  held.reset();
  held.add(entry(1, "a", { failures: 3, deliveries: 2 }));
  held.add(entry(2, "b", { incarnation: "two" }));
  assert.deepEqual(idsOf(held.next(49, 10)), ["2-0"]);
  const [again] = held.next(50, 10);
  assert.deepEqual([again?.failures, again?.deliveries, again?.firstMs], [3, 2, 7]);
});

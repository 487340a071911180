import assert from "node:assert/strict";
import { test } from "node:test";
import type { StoredEvent } from "../../src/core/event.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { storedEvents } from "../support/stored-event.ts";

const never = new AbortController().signal;

function seqs(found: readonly StoredEvent[] | "behind"): number[] | "behind" {
  return found === "behind" ? found : found.map(({ seq }) => seq);
}

async function readNow(
  plane: MemoryPlane,
  group: string,
  max = 10,
  stream = "readings",
): Promise<number[] | "behind"> {
  return seqs(await plane.read(stream, group, max, 0, never));
}

test("read() hands out each event once to each group, in order", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.append("readings", storedEvents(1, 5));
  await plane.attach("readings", "a", 0);
  await plane.attach("readings", "b", 3);
  assert.deepEqual(await readNow(plane, "a", 3), [1, 2, 3]);
  assert.deepEqual(await readNow(plane, "b"), [4, 5]);
  assert.deepEqual(await readNow(plane, "a", 3), [4, 5]);
  assert.deepEqual(await readNow(plane, "a"), []);
});

test("read() loses nothing of a burst of 1,000 events", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.attach("readings", "a", 0);
  const appending = (async () => {
    for (let first = 1; first <= 1000; first += 8)
      await plane.append("readings", storedEvents(first, 8));
  })();
  const got: number[] = [];
  while (got.length < 1000) {
    const found = await plane.read("readings", "a", 7, 1000, never);
    assert.notEqual(found, "behind");
    got.push(...(seqs(found) as number[]));
    await plane.acknowledge("readings", "a", got.length);
  }
  await appending;
  assert.deepEqual(
    got,
    Array.from({ length: 1000 }, (_, index) => index + 1),
  );
  assert.deepEqual(plane.held(), { events: 0, bytes: 0 });
});

test("read() waits for an append, and no longer than it was told", async () => {
  const clock = new FakeClock();
  const plane = new MemoryPlane({ clock });
  await plane.attach("readings", "a", 0);
  const first = plane.read("readings", "a", 10, 500, never);
  await plane.append("readings", storedEvents(1, 1));
  assert.deepEqual(seqs(await first), [1]);
  const second = plane.read("readings", "a", 10, 500, never);
  clock.advance(500);
  assert.deepEqual(await second, []);
  assert.equal(clock.waiting, 0);
});

test("read() ends when it is aborted", async () => {
  const clock = new FakeClock();
  const plane = new MemoryPlane({ clock });
  await plane.attach("readings", "a", 0);
  const controller = new AbortController();
  const reading = plane.read("readings", "a", 10, 60_000, controller.signal);
  controller.abort();
  assert.deepEqual(await reading, []);
  assert.equal(clock.waiting, 0);
});

test("read() says behind to a group that is not attached, or needs what never was here", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.append("readings", storedEvents(10, 2));
  assert.equal(await readNow(plane, "a"), "behind");
  await plane.attach("readings", "a", 8);
  assert.equal(await readNow(plane, "a"), "behind");
  await plane.attach("readings", "a", 9);
  assert.deepEqual(await readNow(plane, "a"), [10, 11]);
});

test("attach() sets a group back, and ahead of what is here", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.append("readings", storedEvents(1, 3));
  await plane.attach("readings", "a", 0);
  await readNow(plane, "a");
  await plane.attach("readings", "a", 1);
  assert.deepEqual(await readNow(plane, "a"), [2, 3]);
  await plane.attach("readings", "a", 4);
  await plane.append("readings", storedEvents(4, 2));
  assert.deepEqual(await readNow(plane, "a"), [5]);
});

test("append() skips what is there, and a hole starts the stream anew", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.attach("readings", "a", 0);
  await plane.append("readings", storedEvents(1, 3));
  await plane.append("readings", storedEvents(2, 3));
  assert.deepEqual(await readNow(plane, "a"), [1, 2, 3, 4]);
  await plane.append("readings", storedEvents(9, 2));
  assert.equal(await readNow(plane, "a"), "behind");
  assert.equal(plane.held().events, 2);
});

test("acknowledge() lets go of what every group has passed", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.attach("readings", "a", 0);
  await plane.attach("readings", "b", 0);
  await plane.append("readings", storedEvents(1, 10));
  await plane.acknowledge("readings", "a", 10);
  assert.equal(plane.held().events, 10);
  await plane.acknowledge("readings", "b", 4);
  assert.equal(plane.held().events, 6);
  await plane.acknowledge("readings", "b", 10);
  assert.deepEqual(plane.held(), { events: 0, bytes: 0 });
  assert.equal(await readNow(plane, "c"), "behind");
});

test("attach() lets go of what a group that was far behind has passed meanwhile", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock() });
  await plane.append("readings", storedEvents(1, 10));
  assert.equal(plane.held().events, 10);
  await plane.attach("readings", "a", 10);
  assert.deepEqual(plane.held(), { events: 0, bytes: 0 });
  await plane.append("readings", storedEvents(11, 1));
  assert.deepEqual(await readNow(plane, "a"), [11]);
});

test("append() keeps the bound of events: the oldest leave, and who needed them is behind", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock(), eventsMax: 100 });
  await plane.attach("readings", "slow", 0);
  await plane.attach("other", "slow", 0);
  await plane.append("other", storedEvents(1, 30, { stream: "other" }));
  for (let seq = 1; seq <= 80; seq++) await plane.append("readings", storedEvents(seq, 1));
  assert.equal(plane.held().events, 100);
  assert.equal(await readNow(plane, "slow", 10, "other"), "behind");
  assert.deepEqual(await readNow(plane, "slow", 3), [1, 2, 3]);
  for (let seq = 81; seq <= 1000; seq++) await plane.append("readings", storedEvents(seq, 1));
  assert.equal(plane.held().events, 100);
  assert.equal(await readNow(plane, "slow"), "behind");
  await plane.attach("readings", "slow", 900);
  assert.deepEqual(await readNow(plane, "slow", 2), [901, 902]);
});

test("append() keeps the bound of bytes, over all streams", async () => {
  const bytesMax = 1024 * 1024;
  const plane = new MemoryPlane({ clock: new FakeClock(), bytesMax });
  const payload = new Uint8Array(10_000);
  for (let seq = 1; seq <= 300; seq++) {
    for (const stream of ["a", "b"]) {
      await plane.append(stream, storedEvents(seq, 1, { stream, payload }));
      assert.ok(plane.held().bytes <= bytesMax);
    }
  }
  assert.ok(plane.held().bytes > bytesMax * 0.9);
});

test("append() of one event that is larger than the bound keeps nothing, and says behind", async () => {
  const plane = new MemoryPlane({ clock: new FakeClock(), bytesMax: 1000 });
  await plane.attach("readings", "a", 0);
  await plane.append("readings", storedEvents(1, 1, { payload: new Uint8Array(2000) }));
  assert.deepEqual(plane.held(), { events: 0, bytes: 0 });
  assert.equal(await readNow(plane, "a"), "behind");
});

test("close() ends who waits and lets go of everything, twice", async () => {
  const clock = new FakeClock();
  const plane = new MemoryPlane({ clock });
  await plane.attach("readings", "a", 0);
  const reading = plane.read("readings", "a", 10, 60_000, never);
  await plane.close();
  assert.equal(await reading, "behind");
  await plane.close();
  assert.equal(clock.waiting, 0);
});

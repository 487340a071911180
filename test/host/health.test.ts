import assert from "node:assert/strict";
import { test } from "node:test";
import { createHealthBook, type HealthBook, sharedHealth } from "../../src/host/health.ts";
import { FakeClock } from "../support/fake-clock.ts";

function opened(): { book: HealthBook; clock: FakeClock } {
  const clock = new FakeClock();
  return { book: createHealthBook({ clock, version: "0.1.0", device: () => "pi" }), clock };
}

test("snapshot() names the device, the version and how long it runs", () => {
  const { book, clock } = opened();
  clock.advance(90_000);
  assert.deepEqual(book.snapshot(), {
    status: "ok",
    version: "0.1.0",
    device: "pi",
    uptimeSeconds: 90,
    components: {},
  });
});

test("report() sets since only when the status changes", () => {
  const { book, clock } = opened();
  const sink = book.component("sink", "cloud");
  clock.advance(60_000);
  sink.report("failing", "Cannot reach the broker");
  clock.advance(60_000);
  sink.report("failing", "Cannot reach the broker: refused");
  const { cloud } = book.snapshot().components;
  assert.deepEqual(cloud, {
    status: "failing",
    kind: "sink",
    since: "2026-01-01T00:01:00.000Z",
    detail: "Cannot reach the broker: refused",
  });
  sink.report("ok");
  assert.equal(book.snapshot().components["cloud"]?.["detail"], undefined);
});

test("snapshot() puts since right when the clock is set", () => {
  const { book, clock } = opened();
  clock.wall = 0;
  book.component("source", "probe").report("degraded", "No sensor");
  clock.advance(5_000);
  clock.wall = Date.UTC(2026, 5, 1);
  assert.equal(book.snapshot().components["probe"]?.since, "2026-05-31T23:59:55.000Z");
});

test("figures() are read when health is shown, and hide nothing of our own", () => {
  const { book } = opened();
  const health = book.component("agent", "journal");
  let events = 1;
  health.figures(() => ({ events, status: "made up" }));
  events = 2;
  const { journal } = book.snapshot().components;
  assert.deepEqual([journal?.["events"], journal?.status], [2, "ok"]);
});

test("snapshot() is failing only when the journal is", () => {
  const { book } = opened();
  const journal = book.component("agent", "journal");
  const sink = book.component("sink", "cloud");
  sink.report("failing", "Away");
  assert.equal(book.snapshot().status, "degraded");
  journal.report("degraded", "Slow");
  assert.equal(book.snapshot().status, "degraded");
  journal.report("failing", "Gone");
  assert.equal(book.snapshot().status, "failing");
  journal.report("ok");
  sink.report("ok");
  assert.equal(book.snapshot().status, "ok");
});

test("a sink that is called journal does not speak for the journal", () => {
  const { book } = opened();
  book.component("agent", "journal");
  book.component("source", "twin");
  book.component("sink", "twin").report("failing", "Away");
  book.component("sink", "journal").report("failing", "Away");
  const { status, components } = book.snapshot();
  assert.equal(status, "degraded");
  assert.deepEqual(Object.keys(components), ["journal", "twin", "sink.twin", "sink.journal"]);
});

test("report() keeps 500 characters of a detail", () => {
  const { book } = opened();
  book.component("sink", "cloud").report("failing", "x".repeat(10_000));
  assert.equal(String(book.snapshot().components["cloud"]?.["detail"]).length, 500);
});

test("sharedHealth() tells the worse of two parts, and each may heal by itself", () => {
  const { book } = opened();
  const [first, second] = sharedHealth(book.component("agent", "plane"));
  const told = (): unknown[] => {
    const plane = book.snapshot().components["plane"];
    return [plane?.status, plane?.["detail"]];
  };
  second.report("degraded", "Slow");
  assert.deepEqual(told(), ["degraded", "Slow"]);
  first.report("degraded", "Away");
  assert.deepEqual(told(), ["degraded", "Away"]);
  second.report("failing", "Gone");
  assert.deepEqual(told(), ["failing", "Gone"]);
  second.report("ok");
  assert.deepEqual(told(), ["degraded", "Away"]);
  first.report("ok");
  assert.deepEqual(told(), ["ok", undefined]);
});

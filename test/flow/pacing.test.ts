/** When, how fast and in which order the delivery loop delivers, on a clock that a test moves. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Delivery } from "../../src/flow/delivery.ts";
import { LinkMonitor } from "../../src/flow/link-monitor.ts";
import type { Pace } from "../../src/flow/pacing.ts";
import { rangesMax } from "../../src/flow/position.ts";
import { range } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FlakySink, unreachable } from "../support/flaky-sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

interface Scene {
  readonly clock: FakeClock;
  readonly context: RecordingContext;
  readonly journal: ListJournal;
  readonly sink: FlakySink;
  readonly delivery: Delivery;
}

const bounds = { events: 100, bytes: 10_000, waitMs: 0 };

function sceneOf(
  t: TestContext,
  pace: Pace,
  given: Partial<Scene & { link: LinkMonitor }> = {},
): Scene {
  const clock = given.clock ?? new FakeClock();
  const context = given.context ?? recordingContext("cloud", clock);
  const journal = given.journal ?? new ListJournal();
  const sink = new FlakySink();
  const delivery = createDelivery({
    context,
    journal,
    sink,
    streams: ["readings"],
    formats: new Map(),
    device: "box",
    pace: { bounds, ...pace },
    ...(given.link !== undefined && { link: given.link }),
  });
  t.after(() => delivery.stop(0));
  return { clock, context, journal, sink, delivery };
}

/** Lets everything run that needs no time. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise(setImmediate);
}

const seqs = ({ sink }: Scene): number[] => sink.taken.map(({ seq }) => seq);
const minute = 60_000;
/** Events are from the first of January. */
const longAfter = Date.UTC(2026, 0, 3);

test("outside its hours a sink waits, well and unconnected; within them it delivers, and ends with them", async (t) => {
  const midnight = new Date(2026, 0, 2).getTime();
  const schedule = { hours: { from: 22 * 60, to: 6 * 60 }, isLinkUp: null };
  const scene = sceneOf(t, { schedule });
  const { clock, journal, sink, delivery, context } = scene;
  clock.wall = midnight - 3 * 60 * minute;
  journal.append("readings", 5);
  delivery.start();
  await settle();
  assert.equal(sink.opened.length, 0);
  assert.equal(context.now().status, "ok");
  assert.equal(context.readFigures()["waits"], "for its hours, 22:00 to 06:00");
  clock.advance(59 * minute);
  await settle();
  assert.equal(sink.opened.length, 0);
  clock.advance(minute);
  await until("the delivery", () => sink.taken.length === 5);
  assert.equal(context.now().status, "ok");
  assert.equal(context.readFigures()["waits"], undefined);
  for (let hour = 0; hour < 8 * 720; hour++) {
    clock.advance(5_000);
    if (hour % 60 === 0) await settle();
  }
  await settle();
  assert.equal(sink.isOpen, false);
  journal.append("readings", 1);
  await settle();
  assert.equal(sink.taken.length, 5);
});

test("an unsynced clock knows no hours", async (t) => {
  const scene = sceneOf(t, { schedule: { hours: { from: 0, to: 0 }, isLinkUp: null } });
  scene.clock.clockQuality = "unsynced";
  scene.journal.append("readings", 1);
  scene.delivery.start();
  await settle();
  assert.equal(scene.sink.opened.length, 0);
  scene.clock.clockQuality = "synced";
  scene.clock.advance(5_000);
  await until("the delivery", () => scene.sink.taken.length === 1);
});

test("sync() delivers what waits outside the hours, tells how much is left, and goes back to waiting", async (t) => {
  let isUp = false;
  const scene = sceneOf(t, { schedule: { hours: null, isLinkUp: () => isUp } });
  const { journal, sink, delivery } = scene;
  journal.append("readings", 250);
  delivery.start();
  await settle();
  assert.equal(delivery.syncing(), null);
  const gate = Promise.withResolvers<void>();
  sink.gate = gate.promise;
  delivery.sync();
  assert.equal(delivery.syncing(), 250);
  await until("a send", () => sink.inFlight === 1);
  gate.resolve();
  await until("the delivery", () => sink.taken.length === 250);
  await settle();
  assert.equal(delivery.syncing(), null);
  assert.equal(sink.isOpen, false, "its hours are over again");
  journal.append("readings", 1);
  await settle();
  assert.equal(sink.taken.length, 250);
  isUp = true;
  scene.clock.advance(5_000);
  await until("the rest", () => sink.taken.length === 251);
});

test("sync() ends a back-off; where it fails it is over, and the back-off goes on", async (t) => {
  const scene = sceneOf(t, {});
  const { clock, journal, sink, delivery } = scene;
  sink.openError = unreachable();
  journal.append("readings", 3);
  delivery.start();
  for (let failure = 0; failure < 8; failure++) {
    await until("a pause", () => clock.waiting === 1);
    clock.advance(minute);
    await settle();
  }
  delivery.sync();
  await settle();
  assert.equal(delivery.syncing(), null, "it was tried");
  sink.openError = null;
  delivery.sync();
  await until("the delivery", () => sink.taken.length === 3);
});

test("a rate holds: no more than its bytes a second, and a second's worth at once", async (t) => {
  const scene = sceneOf(t, { bytesPerSecond: 1_000 });
  const { clock, journal, sink, delivery } = scene;
  journal.append("readings", 500, { payload: Buffer.alloc(100, 0x20) });
  delivery.start();
  await settle();
  assert.ok(sink.taken.length * 100 <= 2_000, `${sink.taken.length} at once`);
  for (const batch of sink.batches) assert.ok(batch.events.length <= 10);
  for (let second = 1; second <= 20; second++) {
    for (let part = 0; part < 10; part++) {
      clock.advance(100);
      await settle();
    }
    assert.ok(sink.taken.length * 100 <= 1_000 * second + 2_000);
    assert.ok(sink.taken.length * 100 >= 1_000 * second, "and no less");
  }
});

test("events wait for company as long as batch.wait says, or until there are enough", async (t) => {
  const scene = sceneOf(t, { bounds: { ...bounds, waitMs: 2_000 } });
  const { clock, journal, sink, delivery } = scene;
  delivery.start();
  await settle();
  for (let count = 0; count < 10; count++) {
    journal.append("readings", 1);
    await settle();
    clock.advance(100);
  }
  await settle();
  assert.equal(sink.taken.length, 0);
  clock.advance(1_000);
  await until("the batch", () => sink.taken.length === 10);
  assert.equal(sink.batches.length, 1);
});

test("a sink that is reached again wakes the others that wait, and only those", async (t) => {
  const link = new LinkMonitor();
  const clock = new FakeClock();
  const scenes = ["a", "b", "well"].map((name) =>
    sceneOf(t, {}, { clock, link, context: recordingContext(name, clock) }),
  );
  const [a, b, well] = scenes as [Scene, Scene, Scene];
  for (const { sink, journal } of [a, b]) {
    sink.openError = unreachable();
    journal.append("readings", 1);
  }
  for (const { delivery } of scenes) delivery.start();
  await until("two pauses", () => clock.waiting === 2);
  for (let round = 0; round < 10; round++) {
    clock.advance(minute);
    await settle();
  }
  // Both wait now for up to a minute; a far side that was there all along says nothing about theirs.
  b.sink.openError = null;
  well.journal.append("readings", 1);
  await until("the one that is well", () => well.sink.taken.length === 1);
  await settle();
  assert.equal(b.sink.taken.length, 0);
  a.sink.openError = null;
  a.delivery.sync();
  await until("both", () => a.sink.taken.length === 1 && b.sink.taken.length === 1);
});

test("live-first: what waited drains beside fresh events, marked; each lane is in order, and nothing is there twice", async (t) => {
  const scene = sceneOf(t, { backlogShare: 0.5 });
  const { clock, journal, sink, delivery } = scene;
  clock.wall = longAfter;
  journal.append("readings", 1_000);
  delivery.start();
  const gates: (() => void)[] = [];
  const next = (): void => {
    const gate = Promise.withResolvers<void>();
    sink.gate = gate.promise;
    gates.push(gate.resolve);
  };
  next();
  await until("a send", () => sink.inFlight === 1);
  // The journal ends at 1,000 for the connection; what comes now is fresh.
  journal.append("readings", 50);
  for (let send = 0; send < 5; send++) {
    const open = gates.at(-1);
    next();
    open?.();
    await settle();
  }
  const fresh = sink.batches.findIndex(({ backfill }) => backfill === false);
  assert.ok(fresh >= 0 && fresh <= 2, `fresh events went as batch ${fresh}`);
  sink.gate = Promise.resolve();
  gates.forEach((open) => open());
  await until("all", () => sink.taken.length === 1_050);
  const lanes = Map.groupBy(sink.batches, ({ backfill }) => backfill);
  const of = (lane: boolean): number[] =>
    (lanes.get(lane) ?? []).flatMap(({ events }) => events.map(({ seq }) => seq));
  assert.deepEqual(of(true), range(1, 1_000));
  assert.deepEqual(of(false), range(1_001, 1_050));
  await delivery.stop(1_000);
  assert.deepEqual(journal.cursor("cloud", "readings"), { seq: 1_050, mark: null });
  assert.equal(clock.waiting, 0);
});

test("live-first: ranges lie with the cursor, so that a new start sends nothing twice", async (t) => {
  const journal = new ListJournal();
  journal.append("readings", 1_000);
  const first = sceneOf(t, { backlogShare: 0.5 }, { journal });
  first.clock.wall = longAfter;
  const gate = Promise.withResolvers<void>();
  first.sink.gate = gate.promise;
  first.sink.fate = ({ seq }) => (seq === 301 ? "break" : "take");
  first.delivery.start();
  await until("a send", () => first.sink.inFlight === 1);
  journal.append("readings", 50);
  gate.resolve();
  await until("the break", () => first.clock.waiting === 1);
  assert.equal(first.delivery.lag().get("readings"), 700);
  await first.delivery.stop(1_000);
  const { seq, mark } = journal.cursor("cloud", "readings");
  assert.equal(seq, 300);
  assert.ok(mark?.startsWith("~"));
  const second = sceneOf(t, { backlogShare: 0.5 }, { journal });
  second.clock.wall = longAfter;
  second.delivery.start();
  await until("the rest", () => second.sink.taken.length >= 700);
  await settle();
  assert.deepEqual(seqs(second), range(301, 1_000));
  await second.delivery.stop(1_000);
  assert.deepEqual(journal.cursor("cloud", "readings"), { seq: 1_050, mark: null });
});

test("live-first: a start in strict order takes up the ranges that another left", async (t) => {
  const journal = new ListJournal();
  journal.append("readings", 100);
  const cursors = [{ stream: "readings", from: 0, to: 10, mark: "~b.9,b.4|own" }];
  await journal.commit({ group: "cloud", cursors }, "soon");
  const scene = sceneOf(t, {}, { journal });
  scene.delivery.start();
  const held = [...range(21, 30), ...range(41, 45)];
  await until("the rest", () => scene.sink.taken.length === 75);
  assert.deepEqual(
    seqs(scene),
    range(11, 100).filter((seq) => !held.includes(seq)),
  );
  assert.deepEqual(scene.sink.opened[0]?.get("readings"), { seq: 10, mark: "own" });
});

test("live-first: after rangesMax outages fresh events wait behind what came before them", async (t) => {
  const journal = new ListJournal();
  const clock = new FakeClock();
  for (let outage = 0; outage < rangesMax + 5; outage++) {
    journal.append("readings", 100);
    clock.wall = longAfter;
    const scene = sceneOf(t, { backlogShare: 0.5 }, { journal, clock });
    // Of the backlog nothing goes; fresh events do.
    const gate = Promise.withResolvers<void>();
    scene.sink.gate = gate.promise;
    scene.sink.fate = ({ seq }) => (seq % 105 > 100 || seq % 105 === 0 ? "take" : "break");
    scene.delivery.start();
    await settle();
    journal.append("readings", 5);
    gate.resolve();
    await settle();
    for (let tries = 0; tries < 5; tries++) {
      clock.advance(minute);
      await settle();
    }
    await scene.delivery.stop(0);
    const { mark } = journal.cursor("cloud", "readings");
    assert.ok((mark ?? "").split(",").length <= rangesMax);
    assert.ok((mark ?? "").length <= 1_024);
  }
  const last = sceneOf(t, { backlogShare: 0.5 }, { journal, clock });
  last.delivery.start();
  await until("all", () => last.delivery.lag().get("readings") === 0);
});

test("pause() ends a connection and is told; after resume() a sink is well when it delivers, not before", async (t) => {
  const scene = sceneOf(t, {});
  const { clock, journal, sink, delivery, context } = scene;
  delivery.pause("asked");
  delivery.start();
  journal.append("readings", 3);
  await settle();
  assert.deepEqual([sink.opened.length, delivery.isPaused()], [0, true]);
  assert.deepEqual(context.now(), { status: "degraded", detail: "asked" });
  sink.openError = unreachable();
  delivery.resume();
  await until("a failure", () => clock.waiting === 1);
  assert.ok(context.reports.every(({ status }) => status === "degraded"));
  sink.openError = null;
  clock.advance(minute);
  await until("the delivery", () => sink.taken.length === 3);
  await settle();
  assert.equal(context.now().status, "ok");
  delivery.pause("asked again");
  await settle();
  assert.equal(sink.isOpen, false);
  assert.equal(context.now().detail, "asked again");
  journal.append("readings", 1);
  delivery.sync();
  clock.advance(minute);
  await settle();
  assert.equal(sink.taken.length, 3, "sync does not end it");
  delivery.resume();
  await until("the rest", () => sink.taken.length === 4);
});

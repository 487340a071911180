import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Delivery } from "../../src/flow/delivery.ts";
import { batchBytesMax, batchEventsMax } from "../../src/flow/read-ahead.ts";
import { range } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FlakySink, unreachable } from "../support/flaky-sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

class Scene {
  readonly clock = new FakeClock();
  readonly context = recordingContext("cloud", this.clock);
  readonly journal: ListJournal;
  readonly sink = new FlakySink();
  readonly streams: readonly string[];
  readonly delivery: Delivery;

  constructor(
    t: TestContext,
    streams: readonly string[] = ["readings"],
    journal = new ListJournal(),
  ) {
    this.journal = journal;
    this.streams = streams;
    const { context, sink } = this;
    const formats = new Map([["readings", "json" as const]]);
    this.delivery = createDelivery({ context, journal, sink, streams, formats, device: "box" });
    t.after(() => this.delivery.stop(0));
  }

  seqs(stream = "readings"): number[] {
    return this.sink.taken.filter((event) => event.stream === stream).map((event) => event.seq);
  }

  count(status: string): number {
    return (
      this.context.sums.get(`holdfast_sink_events_total{sink="cloud",status="${status}"}`) ?? 0
    );
  }

  async delivered(count: number): Promise<void> {
    await until(`${count} events`, () => this.sink.taken.length >= count);
  }

  /** Lets everything run that needs no time. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  }
}

test("start() delivers what waits and what comes, in order, and the cursor follows", async (t) => {
  const scene = new Scene(t);
  scene.journal.append("readings", 1500);
  scene.delivery.start();
  await scene.delivered(1500);
  await scene.settle();
  scene.journal.append("readings", 3);
  await scene.delivered(1503);
  await scene.delivery.stop(1000);
  assert.deepEqual(scene.seqs(), range(1, 1503));
  assert.deepEqual(scene.journal.cursor("cloud", "readings"), { seq: 1503, mark: null });
  assert.equal(scene.sink.batches[0]?.format, "json");
  assert.deepEqual(scene.context.now(), { status: "ok", detail: undefined });
  assert.equal(scene.count("delivered"), 1503);
  assert.equal(scene.clock.waiting, 0);
  assert.equal(scene.journal.listeners, 0);
});

test("start() goes on where the journal's cursor stands, with its mark", async (t) => {
  const journal = new ListJournal();
  journal.append("readings", 10);
  await journal.commit(
    { group: "cloud", cursors: [{ stream: "readings", from: 0, to: 4, mark: "at 4" }] },
    "soon",
  );
  const scene = new Scene(t, ["readings"], journal);
  scene.delivery.start();
  await scene.delivered(6);
  assert.deepEqual(scene.seqs(), range(5, 10));
  assert.deepEqual(scene.sink.opened[0]?.get("readings"), { seq: 4, mark: "at 4" });
});

test("a batch has at most batchEventsMax events and batchBytesMax bytes, and no more than two are held", async (t) => {
  const scene = new Scene(t);
  const gate = Promise.withResolvers<void>();
  scene.sink.gate = gate.promise;
  scene.journal.append("readings", 3 * batchEventsMax);
  scene.journal.append("readings", 20, { payload: Buffer.alloc(64 * 1024, 0x20) });
  scene.delivery.start();
  await scene.settle();
  // One event to see how old the oldest is, the batch that is sent, the one read ahead.
  assert.deepEqual(
    scene.journal.reads.map((read) => read.events),
    [1, batchEventsMax, batchEventsMax],
  );
  gate.resolve();
  await scene.delivered(3 * batchEventsMax + 20);
  for (const { events } of scene.sink.batches) {
    const bytes = events.reduce((sum, event) => sum + event.payload.length, 0);
    assert.ok(events.length <= batchEventsMax && bytes <= batchBytesMax);
  }
  assert.ok(scene.sink.batches.some(({ events }) => events.length < batchEventsMax));
});

test("a sink that is away is tried again with back-off, health says so, and it heals by itself", async (t) => {
  const scene = new Scene(t);
  scene.sink.openError = unreachable();
  scene.journal.append("readings", 5);
  scene.delivery.start();
  await until("the first failure", () => scene.clock.waiting === 1);
  const { status, detail } = scene.context.now();
  assert.equal(status, "degraded");
  assert.match(detail ?? "", /it is away; events wait in the journal, next attempt within \d+ms/);
  let attempts = 1;
  for (let minutes = 0; minutes < 60; minutes++) {
    scene.clock.advance(60_000);
    await scene.settle();
    attempts++;
  }
  assert.equal(
    scene.context.lines.filter((line) => line.level === "warn").length,
    Math.floor(Math.log2(attempts)) + 1,
  );
  assert.equal(scene.delivery.lag().get("readings"), 5);
  assert.ok((scene.context.readFigures()["oldestUnsentSeconds"] as number) >= 3600);
  scene.sink.openError = null;
  scene.clock.advance(60_000);
  await scene.delivered(5);
  await scene.settle();
  assert.equal(scene.context.now().status, "ok");
  assert.match(scene.context.lines.at(-1)?.message ?? "", /delivers again after 1h/);
  assert.equal(scene.delivery.lag().get("readings"), 0);
  assert.equal(scene.context.readFigures()["oldestUnsentSeconds"], 0);
});

test("a batch that comes to nothing is halved down to 4 KiB, and doubled again when one gets through", async (t) => {
  const scene = new Scene(t);
  const sizes: number[] = [];
  let fails = 8;
  const send = scene.sink.send.bind(scene.sink);
  scene.sink.send = (batch, signal) => {
    sizes.push(batch.events.length);
    if (--fails >= 0) return Promise.resolve({ settled: 0, refused: [], failure: unreachable() });
    return send(batch, signal);
  };
  scene.journal.append("readings", 3_000, { payload: Buffer.alloc(1024, 0x20) });
  scene.delivery.start();
  for (let attempt = 0; attempt < 8; attempt++) {
    await until("a pause", () => scene.clock.waiting === 1);
    scene.clock.advance(60_000);
    await scene.settle();
  }
  await scene.delivered(3_000);
  assert.deepEqual(sizes.slice(0, 9), [256, 128, 64, 32, 16, 8, 4, 4, 4]);
  assert.deepEqual(scene.seqs(), range(1, 3_000));
  // One is read ahead while the one before it is sent.
  assert.ok(sizes.slice(9).includes(256), sizes.join());
});

test("what a person must mend is failing, with the hint, and tried again each minute", async (t) => {
  const scene = new Scene(t);
  scene.sink.openError = new HoldfastError(
    "SINK_DENIED",
    "Cannot deliver to far side: bad password",
  );
  scene.journal.append("readings", 1);
  scene.delivery.start();
  await until("the first failure", () => scene.clock.waiting === 1);
  assert.equal(scene.context.now().status, "failing");
  assert.match(scene.context.now().detail ?? "", /bad password \(Check the user name/);
  scene.sink.openError = null;
  scene.clock.advance(59_999);
  await scene.settle();
  assert.equal(scene.sink.opened.length, 0);
  scene.clock.advance(1);
  await scene.delivered(1);
});

test("a connection that breaks in the middle goes on behind what was settled, and health waits for proof", async (t) => {
  const scene = new Scene(t);
  let breaks = 3;
  scene.sink.fate = (event) => (event.seq % 100 === 50 && breaks-- > 0 ? "break" : "take");
  scene.journal.append("readings", 400);
  scene.delivery.start();
  for (let failures = 0; failures < 3; failures++) {
    await until("a failure", () => scene.clock.waiting === 1);
    assert.equal(scene.context.now().status, "degraded");
    scene.clock.advance(60_000);
  }
  await scene.delivered(400);
  assert.deepEqual(scene.seqs(), range(1, 400));
  assert.deepEqual(
    scene.sink.opened.map((positions) => positions.get("readings")?.seq),
    [0, 49, 49, 49],
  );
  assert.ok(scene.count("retried") > 0);
  await scene.settle();
  assert.equal(scene.context.now().status, "ok");
});

test("a sink that fails a share of its sends loses nothing and repeats nothing that it settled", async (t) => {
  const scene = new Scene(t, ["alarms", "readings"]);
  let random = 7;
  scene.sink.fate = () => {
    random = (random * 1_103_515_245 + 12_345) % 2 ** 31;
    return random % 1000 < 3 ? "break" : "take";
  };
  scene.delivery.start();
  for (let round = 0; round < 20; round++) {
    scene.journal.append("readings", 137);
    scene.journal.append("alarms", 41);
    await scene.settle();
    scene.clock.advance(60_000);
  }
  await until("all of it", async () => {
    scene.clock.advance(60_000);
    await scene.settle();
    return scene.sink.taken.length >= 20 * 178;
  });
  assert.deepEqual(scene.seqs("readings"), range(1, 20 * 137));
  assert.deepEqual(scene.seqs("alarms"), range(1, 20 * 41));
  assert.ok(scene.sink.opened.length > 5);
});

test("refused events become dead letters in one unit with the cursor that passes them", async (t) => {
  const scene = new Scene(t);
  scene.sink.fate = (event) => (event.seq % 10 === 0 ? "refuse" : "take");
  scene.journal.append("readings", 30, { key: "k" });
  scene.delivery.start();
  await until("the dead letters", () => scene.journal.deadLetters.length === 3);
  const unit = scene.journal.committed.find(({ unit }) => unit.deadLetters !== undefined);
  assert.equal(unit?.when, "soon");
  assert.deepEqual(unit.unit.cursors, [{ stream: "readings", from: 0, to: 30 }]);
  const [letter] = scene.journal.deadLetters;
  assert.equal(letter?.seq, 10);
  assert.equal(letter.origin, "sink");
  assert.equal(letter.originName, "cloud");
  assert.equal(letter.code, "SINK_REFUSED");
  assert.equal(letter.reason, "Far side refused 10");
  assert.equal(Buffer.from(letter.payload).toString(), '{"n":10}');
  assert.equal(scene.count("refused"), 3);
  assert.equal(scene.count("delivered"), 27);
});

test("nothing more is sent until dead letters are durable, also behind a cursor that rides along", async (t) => {
  const scene = new Scene(t);
  const last = batchEventsMax + 88;
  scene.journal.append("readings", last);
  scene.sink.fate = (event) => (event.seq === last ? "refuse" : "take");
  scene.delivery.start();
  // The first batch's cursor is idle and waits for company; the second batch has a dead letter.
  scene.journal.hold();
  await until("both batches", () => scene.sink.batches.length === 2);
  scene.journal.append("readings", 10);
  await scene.settle();
  assert.equal(scene.sink.batches.length, 2);
  scene.journal.land();
  await scene.delivered(last + 9);
  assert.equal(scene.journal.deadLetters.length, 1);
});

test("an event that a sink refuses by throwing is given up after five attempts, and the rest goes on", async (t) => {
  const scene = new Scene(t);
  scene.sink.fate = (event) => (event.seq === 1 ? "throw-refusal" : "take");
  scene.journal.append("readings", 3);
  scene.delivery.start();
  for (let attempt = 1; attempt < 5; attempt++) {
    await until("a pause", () => scene.clock.waiting === 1);
    scene.clock.advance(60_000);
  }
  await scene.delivered(2);
  assert.equal(scene.journal.deadLetters[0]?.seq, 1);
  assert.equal(scene.journal.deadLetters[0].attempts, 5);
  assert.ok(scene.journal.deadLetters[0].firstFailedAt < scene.journal.deadLetters[0].lastFailedAt);
});

test("cursors are committed rarely: one unit at a time, idle without a mark, within the linger with one", async (t) => {
  const scene = new Scene(t);
  scene.journal.append("readings", 5000);
  scene.delivery.start();
  await scene.delivered(5000);
  await scene.settle();
  assert.equal(scene.journal.waiting, 1);
  await scene.delivery.stop(1000);
  assert.deepEqual(
    scene.journal.committed.map(({ when }) => when),
    ["idle", "soon"],
  );
  assert.equal(scene.journal.cursor("cloud", "readings").seq, 5000);

  const marked = new Scene(t);
  marked.sink.givesMarks = true;
  marked.journal.append("readings", 10);
  marked.delivery.start();
  await until("the cursor", () => marked.journal.cursor("cloud", "readings").seq === 10);
  assert.equal(marked.journal.committed[0]?.when, "linger");
  assert.equal(marked.journal.cursor("cloud", "readings").mark, "at 10");
  assert.deepEqual(marked.sink.durables.at(-1), {
    stream: "readings",
    position: { seq: 10, mark: "at 10" },
  });
});

test("a journal that cannot commit holds back the cursor, not the delivery, and is tried again", async (t) => {
  const scene = new Scene(t);
  scene.sink.givesMarks = true;
  scene.journal.commitError = new HoldfastError("JOURNAL_DISK", "Cannot write: input/output error");
  scene.journal.append("readings", 1000);
  scene.delivery.start();
  await scene.delivered(1000);
  await until("a pause", () => scene.clock.waiting === 1);
  assert.equal(scene.journal.cursor("cloud", "readings").seq, 0);
  scene.journal.commitError = null;
  scene.clock.advance(60_000);
  await until("the cursor", () => scene.journal.cursor("cloud", "readings").seq === 1000);
  assert.deepEqual(scene.seqs(), range(1, 1000));
});

test("a stretch that was trimmed unsent is passed over, counted and said", async (t) => {
  const scene = new Scene(t, ["alarms", "readings"]);
  scene.journal.append("readings", 100);
  scene.journal.trim("readings", 41);
  scene.journal.append("alarms", 7);
  scene.journal.trim("alarms", 8);
  scene.delivery.start();
  await scene.delivered(60);
  await scene.delivery.stop(1000);
  assert.deepEqual(scene.seqs(), range(41, 100));
  assert.equal(scene.journal.cursor("cloud", "alarms").seq, 7);
  assert.equal(scene.count("trimmed"), 47);
  const warned = scene.context.lines.filter((line) => line.message.includes("were dropped before"));
  assert.deepEqual(
    warned.map((line) => line.fields),
    [
      { stream: "alarms", from: 1, to: 7 },
      { stream: "readings", from: 1, to: 40 },
    ],
  );
});

test("what was thinned is delivered as it is, its holes counted and said once", async (t) => {
  const scene = new Scene(t);
  scene.journal.append("readings", 100);
  scene.journal.thin("readings", 90, 10);
  scene.delivery.start();
  await scene.delivered(19);
  await scene.delivery.stop(1000);
  assert.deepEqual(scene.seqs(), [1, 11, 21, 31, 41, 51, 61, 71, 81, ...range(91, 100)]);
  assert.equal(scene.journal.cursor("cloud", "readings").seq, 100);
  assert.equal(scene.count("trimmed"), 81);
  const warned = scene.context.lines.filter((line) => line.message.includes("were dropped before"));
  assert.deepEqual(
    warned.map((line) => line.fields),
    [{ stream: "readings", from: 1, to: 100, events: 81 }],
  );
});

test("what went back from the dead letters to another sink is passed over, and nothing of it counts as missing", async (t) => {
  const scene = new Scene(t);
  const others = { headers: { replayOf: "1", replayFor: "archive" } };
  scene.journal.append("readings", 2);
  scene.journal.append("readings", 1, others);
  scene.journal.append("readings", 1, { headers: { replayOf: "1", replayFor: "cloud" } });
  scene.journal.append("readings", 2, others);
  scene.delivery.start();
  await scene.delivered(3);
  await scene.settle();
  scene.journal.append("readings", 3, others);
  await scene.settle();
  scene.journal.append("readings", 1);
  await scene.delivered(4);
  await scene.delivery.stop(1000);
  assert.deepEqual(scene.seqs(), [1, 2, 4, 10]);
  assert.equal(scene.journal.cursor("cloud", "readings").seq, 10);
  assert.equal(scene.count("delivered"), 4);
  assert.equal(scene.count("trimmed"), 0);
});

test("a trim behind what is being sent does not move the cursor past what is in flight", async (t) => {
  const scene = new Scene(t);
  const gate = Promise.withResolvers<void>();
  scene.journal.append("readings", 100);
  scene.sink.gate = gate.promise;
  scene.delivery.start();
  await scene.settle();
  scene.journal.append("readings", 2000);
  scene.journal.trim("readings", 1500);
  await scene.settle();
  assert.equal(scene.delivery.lag().get("readings"), 601, "what was trimmed waits no more");
  gate.resolve();
  await scene.delivered(100 + 601);
  assert.deepEqual(scene.seqs(), [...range(1, 100), ...range(1500, 2100)]);
});

test("a cursor that somebody else moved is taken up: the sink is opened there", async (t) => {
  const scene = new Scene(t);
  scene.journal.append("readings", 20);
  scene.sink.givesMarks = true;
  scene.delivery.start();
  await until("the cursor", () => scene.journal.cursor("cloud", "readings").seq === 20);
  scene.journal.moveCursor("cloud", "readings", 15);
  scene.journal.append("readings", 1);
  await scene.delivered(27);
  assert.deepEqual(scene.seqs(), [...range(1, 21), ...range(16, 21)]);
  await until("the cursor again", () => scene.journal.cursor("cloud", "readings").seq === 21);
});

test("a far side that goes while nothing is sent shows at once and is opened again", async (t) => {
  const scene = new Scene(t);
  scene.delivery.start();
  await until("it to be open", () => scene.sink.isOpen && scene.context.now().status === "ok");
  scene.sink.lose();
  await until("the report", () => scene.context.now().status === "degraded");
  assert.equal(scene.context.sums.get('holdfast_sink_connected{sink="cloud"}'), 0);
  scene.clock.advance(60_000);
  await until("it to heal", () => scene.context.now().status === "ok");
  assert.equal(scene.sink.opened.length, 2);
});

test("a journal that cannot be read is tried again within 5 s, however often it failed", async (t) => {
  const scene = new Scene(t);
  scene.journal.append("readings", 4);
  scene.journal.readError = new HoldfastError("JOURNAL_DISK", "Cannot read: input/output error");
  scene.delivery.start();
  await until("the report", () => scene.context.now().detail?.includes("input/output") ?? false);
  for (let attempt = 0; attempt < 8; attempt++) {
    await until("a pause", () => scene.clock.waiting === 1);
    scene.clock.advance(5_000);
    await scene.settle();
  }
  scene.journal.readError = null;
  await until("a pause", () => scene.clock.waiting === 1);
  scene.clock.advance(5_000);
  await scene.delivered(4);
});

test("no stream of a sink starves behind another", async (t) => {
  const scene = new Scene(t, ["alarms", "readings"]);
  scene.journal.append("readings", batchEventsMax);
  scene.journal.append("alarms", batchEventsMax * 15);
  scene.delivery.start();
  await scene.delivered(batchEventsMax * 16);
  const at = scene.sink.batches.findIndex((batch) => batch.stream === "readings");
  assert.ok(at > 0 && at <= 9, `readings were batch ${at}`);
});

test("stop() lets what is being sent end, sends nothing more, and makes the last cursor durable", async (t) => {
  const scene = new Scene(t);
  const gate = Promise.withResolvers<void>();
  scene.sink.gate = gate.promise;
  scene.journal.append("readings", 2 * batchEventsMax);
  scene.delivery.start();
  await until("a send", () => scene.sink.inFlight === 1);
  const stopped = scene.delivery.stop(1000);
  await scene.settle();
  gate.resolve();
  await stopped;
  await scene.delivery.stop(1000);
  assert.equal(scene.sink.taken.length, batchEventsMax);
  assert.equal(scene.journal.cursor("cloud", "readings").seq, batchEventsMax);
  assert.equal(scene.sink.isOpen, false);
  assert.equal(scene.clock.waiting, 0);
});

test("stop() aborts a send that takes longer than the grace, and leaves one that ignores that", async (t) => {
  for (const ignoresAbort of [false, true]) {
    const scene = new Scene(t);
    const gate = Promise.withResolvers<void>();
    scene.sink.gate = gate.promise;
    scene.sink.ignoresAbort = ignoresAbort;
    scene.journal.append("readings", 10);
    scene.delivery.start();
    await until("a send", () => scene.sink.inFlight === 1);
    const stopped = scene.delivery.stop(1000);
    scene.clock.advance(1000);
    await scene.settle();
    if (ignoresAbort) scene.clock.advance(500);
    await stopped;
    assert.equal(scene.journal.cursor("cloud", "readings").seq, 0);
    gate.resolve();
    await scene.settle();
  }
});

test("stop() ends a back-off at once, and a delivery that never began", async (t) => {
  const scene = new Scene(t);
  scene.sink.openError = unreachable();
  scene.delivery.start();
  await until("a pause", () => scene.clock.waiting === 1);
  await scene.delivery.stop(1000);
  assert.equal(scene.clock.waiting, 0);
  await new Scene(t).delivery.stop(1000);
});

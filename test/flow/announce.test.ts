/** What the delivery loop owes a sink whose far side knows a request which comes twice. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import { LinkMonitor } from "../../src/flow/link-monitor.ts";
import type { Announcement, Batch } from "../../src/sink/sink.ts";
import { range } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FlakySink, unreachable } from "../support/flaky-sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

class AnnouncingSink extends FlakySink {
  announcement: (batch: Batch) => Announcement = ({ events }) => ({
    upTo: events.at(-1)?.seq ?? 0,
  });

  announce(batch: Batch): Announcement {
    return this.announcement(batch);
  }
}

function sceneOf(t: TestContext, name = "out", link = new LinkMonitor(), clock = new FakeClock()) {
  const sink = new AnnouncingSink();
  const context = recordingContext(name, clock);
  const journal = new ListJournal();
  const delivery = createDelivery({
    context,
    journal,
    sink,
    streams: ["readings"],
    formats: new Map(),
    device: "box",
    pace: { bounds: { events: 4, bytes: 10_000, waitMs: 0 } },
    link,
  });
  t.after(() => delivery.stop(0));
  return { sink, context, journal, delivery, clock };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise(setImmediate);
}

const batchesOf = ({ batches }: FlakySink): number[][] =>
  batches.map(({ events }) => events.map(({ seq }) => seq));

test("what a sink announces is on disk before it is sent, with the cursor where it stands", async (t) => {
  const { sink, context, journal, delivery } = sceneOf(t);
  sink.announcement = ({ events }) => ({
    upTo: events.at(-1)?.seq ?? 0,
    mark: `begun ${events[0]?.seq}`,
  });
  journal.hold();
  journal.append("readings", 8);
  delivery.start();
  await settle();
  assert.deepEqual(sink.batches, []);
  assert.equal(journal.waiting, 1);
  const marks: (string | null)[] = [];
  sink.fate = ({ seq }) => {
    if (seq % 4 === 1) marks.push(journal.cursor(context.name, "readings").mark);
    return "take";
  };
  journal.land();
  await until("all", () => sink.taken.length === 8);
  assert.deepEqual(marks, ["begun 1", "begun 5"]);
  assert.deepEqual(batchesOf(sink), [range(1, 4), range(5, 8)]);
});

test("a batch reaches as far as its sink has begun it, however much was read", async (t) => {
  const { sink, journal, delivery } = sceneOf(t);
  // Begun by a version that read more at once.
  sink.announcement = ({ events }) => ({
    upTo: events[0]?.seq === 1 ? 10 : (events.at(-1)?.seq ?? 0),
  });
  journal.append("readings", 13);
  delivery.start();
  await until("all", () => sink.taken.length === 13);
  assert.deepEqual(batchesOf(sink), [range(1, 10), range(11, 13)]);
});

test("what is another sink's in a batch that reaches further counts as no gap", async (t) => {
  const { sink, context, journal, delivery } = sceneOf(t);
  sink.announcement = () => ({ upTo: 10 });
  for (const owner of ["out", "other", "out", "other", "out"]) {
    journal.append("readings", 2, { headers: { replayFor: owner } });
  }
  delivery.start();
  await until("all", () => sink.taken.length === 6);
  assert.deepEqual(batchesOf(sink), [[1, 2, 5, 6, 9, 10]]);
  await settle();
  assert.equal(context.sums.get('holdfast_sink_events_total{sink="out",status="delivered"}'), 6);
  assert.equal(context.sums.get('holdfast_sink_events_total{sink="out",status="trimmed"}') ?? 0, 0);
});

test("nothing is sent, and nothing lost, when the cursor moves under an announcement", async (t) => {
  const { sink, context, journal, delivery } = sceneOf(t);
  let isFirst = true;
  sink.announcement = ({ events }) => {
    if (isFirst) journal.moveCursor(context.name, "readings", 2);
    isFirst = false;
    return { upTo: events.at(-1)?.seq ?? 0, mark: `begun ${events[0]?.seq}` };
  };
  journal.append("readings", 4);
  delivery.start();
  await until("the rest", () => sink.taken.length === 2);
  assert.deepEqual(batchesOf(sink), [[3, 4]]);
});

test("a far side that asks to be left alone is, whatever other sinks find", async (t) => {
  const link = new LinkMonitor();
  const clock = new FakeClock();
  const [busy, other] = [sceneOf(t, "busy", link, clock), sceneOf(t, "other", link, clock)];
  busy.sink.openError = new HoldfastError("SINK_UNREACHABLE", "Busy", { retryAfterMs: 300_000 });
  other.sink.openError = unreachable();
  for (const { journal, delivery } of [busy, other]) {
    journal.append("readings", 1);
    delivery.start();
  }
  await until("two pauses", () => clock.waiting === 2);
  for (const { sink } of [busy, other]) sink.openError = null;
  clock.advance(60_000);
  await until("the other", () => other.sink.taken.length === 1);
  await settle();
  assert.equal(busy.sink.taken.length, 0);
  clock.advance(239_000);
  await settle();
  assert.equal(busy.sink.taken.length, 0);
  clock.advance(1000);
  await until("its time", () => busy.sink.taken.length === 1);
});

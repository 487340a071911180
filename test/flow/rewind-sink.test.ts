import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { RewindOrder } from "../../src/core/replay.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import { rewindSink } from "../../src/flow/rewind-sink.ts";
import { range } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FlakySink } from "../support/flaky-sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

const stream = "readings";

async function delivered(t: TestContext, count: number, givesMarks = false) {
  const journal = new ListJournal();
  journal.append(stream, count);
  const sink = new FlakySink();
  sink.givesMarks = givesMarks;
  const context = recordingContext("cloud", new FakeClock());
  const formats = new Map([[stream, "json" as const]]);
  const parts = { context, journal, sink, streams: [stream], formats, device: "box" };
  const delivery = createDelivery(parts);
  t.after(() => delivery.stop(0));
  delivery.start();
  await until("the delivery", () => sink.taken.length === count);
  journal.commitSoon();
  await until("the cursor", () => journal.cursor("cloud", stream).seq === count);
  return { journal, sink, delivery };
}

const back = (from: RewindOrder["from"], again = false): RewindOrder => ({
  stream,
  from,
  state: null,
  again,
});
const isRefused = (error: unknown): boolean =>
  error instanceof HoldfastError && error.code === "REPLAY_REFUSED";

test("rewind() lets a sink that is idle go back, at once", async (t) => {
  const { sink, delivery } = await delivered(t, 20);
  assert.deepEqual(await delivery.rewind(back({ seq: 15 })), {
    from: 15,
    cursor: 20,
    isShortened: false,
    removedKeys: 0,
  });
  await until("the replay", () => sink.taken.length === 26);
  assert.deepEqual(
    sink.taken.map(({ seq }) => seq),
    [...range(1, 20), ...range(15, 20)],
  );
});

test("rewind() of a sink begins with the first that was received at a time, or with the oldest that is kept", async (t) => {
  const { journal, delivery } = await delivered(t, 20);
  const time = Date.UTC(2026, 0, 1) + 5 + 12;
  assert.equal((await delivery.rewind(back({ time }))).from, 12);
  journal.trim(stream, 4);
  const oldest = await delivery.rewind(back({ seq: 1 }));
  assert.deepEqual([oldest.from, oldest.isShortened], [4, true]);
  assert.equal((await delivery.rewind(back({ time: 0 }))).from, 4);
});

test("rewind() of a sink refuses a place not reached, and one that keeps its own place or would skip it", async (t) => {
  const { journal, sink, delivery } = await delivered(t, 20);
  await assert.rejects(delivery.rewind(back({ seq: 22 })), isRefused);
  const parts = {
    journal,
    group: "cloud",
    flush: () => Promise.resolve(),
    reload: () => undefined,
  };
  const knowing = { ...parts, sink: Object.assign(sink, { again: () => "1@5" }) };
  await assert.rejects(rewindSink(knowing, back({ seq: 5 })), /--again/);
  assert.equal(sink.taken.length, 20, "nothing has moved");
  const marked = await delivered(t, 20, true);
  await assert.rejects(marked.delivery.rewind(back({ seq: 5 })), /its own place/);
});

test("rewind() leaves the mark that makes a knowing sink send again", async (t) => {
  const { journal, sink } = await delivered(t, 20);
  const asked: unknown[] = [];
  const again = (mark: string | null, from: number): string => {
    asked.push([mark, from]);
    return `1@${from}`;
  };
  const parts = {
    journal,
    group: "cloud",
    flush: () => Promise.resolve(),
    reload: () => undefined,
  };
  await rewindSink({ ...parts, sink: Object.assign(sink, { again }) }, back({ seq: 5 }, true));
  assert.deepEqual(asked, [[null, 5]]);
  assert.deepEqual(journal.cursor("cloud", stream), { seq: 4, mark: "1@5" });
});

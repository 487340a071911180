import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import { replay, type Replayed, type ReplayWish } from "../../src/flow/replay.ts";
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
  const part: Replayed = {
    group: "cloud",
    streams: [stream],
    sink,
    flush: () => delivery.flush(),
    reload: () => delivery.reload(),
  };
  return { journal, sink, delivery, part };
}

const wish = (from: ReplayWish["from"], again = false): ReplayWish => ({ stream, from, again });
const isRefused = (error: unknown): boolean =>
  error instanceof HoldfastError && error.code === "REPLAY_REFUSED";

test("replay() lets a sink that is idle go back, at once", async (t) => {
  const { journal, sink, part } = await delivered(t, 20);
  assert.equal(await replay(journal, part, wish({ seq: 15 })), 15);
  await until("the replay", () => sink.taken.length === 26);
  assert.deepEqual(
    sink.taken.map(({ seq }) => seq),
    [...range(1, 20), ...range(15, 20)],
  );
});

test("replay() begins with the first that was received at a time, or with the oldest that is kept", async (t) => {
  const { journal, part } = await delivered(t, 20);
  const timeMs = Date.UTC(2026, 0, 1) + 5 + 12;
  assert.equal(await replay(journal, part, wish({ timeMs })), 12);
  journal.trim(stream, 4);
  assert.equal(await replay(journal, part, wish({ seq: 1 })), 4);
  assert.equal(await replay(journal, part, wish({ timeMs: 0 })), 4);
});

test("replay() refuses what cannot be: a stream not read, a place not reached, a sink that keeps its own place or would skip it", async (t) => {
  const { journal, sink, part } = await delivered(t, 20);
  const other = { ...wish({ seq: 1 }), stream: "alarms" };
  await assert.rejects(replay(journal, part, other), isRefused);
  await assert.rejects(replay(journal, part, wish({ seq: 22 })), isRefused);
  const knowing = { ...part, sink: Object.assign(sink, { again: () => "1@5" }) };
  await assert.rejects(replay(journal, knowing, wish({ seq: 5 })), /--again/);
  assert.equal(sink.taken.length, 20, "nothing has moved");
  const marked = await delivered(t, 20, true);
  await assert.rejects(replay(marked.journal, marked.part, wish({ seq: 5 })), /its own place/);
});

test("replay() leaves the mark that makes a knowing sink send again", async (t) => {
  const { journal, sink, part } = await delivered(t, 20);
  const asked: unknown[] = [];
  const again = (mark: string | null, from: number): string => {
    asked.push([mark, from]);
    return `1@${from}`;
  };
  const knowing = { ...part, sink: Object.assign(sink, { again }), reload: () => undefined };
  await replay(journal, knowing, wish({ seq: 5 }, true));
  assert.deepEqual(asked, [[null, 5]]);
  assert.deepEqual(journal.cursor("cloud", stream), { seq: 4, mark: "1@5" });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Redelivery } from "../../src/core/replay.ts";
import { createRedelivery } from "../../src/flow/redeliver.ts";
import type { NewDeadLetter } from "../../src/journal/journal.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";
import { openRules, ProcessingLine } from "../support/processing-line.ts";

const letter = (given: Partial<NewDeadLetter>): NewDeadLetter => ({
  stream: "in",
  seq: null,
  origin: "source",
  originName: "greenhouse",
  code: "EVENT_INVALID",
  reason: "Payload does not fit",
  attempts: 1,
  firstFailedAt: 1000,
  lastFailedAt: 1000,
  key: null,
  time: 1000,
  headers: { topic: "t" },
  payload: Buffer.from('{"n":1}'),
  ...given,
});

function redeliveryOf(line: ProcessingLine): Redelivery {
  return createRedelivery({
    journal: line.journal,
    clock: line.clock,
    rulesOf: () => openRules(),
    processors: new Map([["proc", { from: ["in"], exclusively: (act) => line.exclusively(act) }]]),
  });
}

test("replay() gives what a sink refused to that sink alone, as a new event that says what it was", async () => {
  const line = new ProcessingLine().start();
  line.put({ n: 1 });
  await line.drained();
  line.disk.bury(letter({ origin: "sink", originName: "cloud", seq: 1, key: "k" }));
  line.disk.bury(letter({ origin: "sink", originName: "proc", seq: 1 }));
  const report = await redeliveryOf(line).replay("in", 0, 10);
  assert.deepEqual([report.replayed, report.last, line.disk.letters], [2, 2, []]);
  await line.drained();
  const [, second] = line.disk.events("in");
  assert.deepEqual(second?.headers, { topic: "t", replayOf: "1", replayFor: "cloud" });
  assert.deepEqual([second.key, second.time], ["k", 1000]);
  // The processor passes over what is for another.
  assert.deepEqual(
    line.disk.events("out").map(({ headers }) => headers["replayFor"]),
    [undefined, "proc"],
  );
  await line.stop();
});

test("replay() gives a processor no more than its retry rows have room for, and goes on where it was", async () => {
  let isBroken = true;
  const line = new ProcessingLine({
    handler: ({ payload }) => {
      if (isBroken) throw new Error("Broken");
      return payload;
    },
    policy: { attempts: 1, baseMs: 1000, maxMs: 1000, onFailure: "dead-letter" },
  }).start();
  for (let n = 1; n <= 1200; n++) line.put({ n });
  await line.until("the letters", () => line.disk.letters.length === 1200);
  isBroken = false;
  const redelivery = redeliveryOf(line);
  let [after, replayed, wasFull] = [0, 0, false];
  while (replayed < 1200) {
    const report = await redelivery.replay("in", after, 1200);
    replayed += report.replayed;
    after = report.last ?? after;
    wasFull ||= report.isFull;
    assert.ok(line.disk.retries.size <= 1000);
    await line.until("the rows", () => line.disk.retries.size === 0);
  }
  await line.drained();
  const numbers = line.values().map(({ n }) => n as number);
  assert.deepEqual(
    numbers.toSorted((a, b) => a - b),
    Array.from({ length: 1200 }, (_, index) => index + 1),
  );
  await line.stop();
});

test("replay() leaves a letter whose processor is gone, and one that still does not fit", async () => {
  const line = new ProcessingLine().start();
  line.disk.bury(letter({ origin: "processor", originName: "gone", seq: 1 }));
  line.disk.bury(letter({ payload: Buffer.from("{") }));
  line.disk.bury(letter({}));
  const report = await redeliveryOf(line).replay("in", 0, 10);
  assert.equal(report.replayed, 1);
  assert.deepEqual(
    report.refused.map(({ id, code }) => [id, code]),
    [
      [1, "DLQ_HOMELESS"],
      [2, "EVENT_MALFORMED"],
    ],
  );
  assert.deepEqual(
    line.disk.letters.map(({ id }) => id),
    [1, 2],
  );
  await line.stop();
});

test("two who replay at once send each letter once, in the real journal", async (t) => {
  const { journal } = await openJournal(t, { linger: 1 });
  for (let n = 0; n < 100; n++) {
    const payload = Buffer.from(`{"n":${n}}`);
    await new Promise<void>((resolve) => {
      journal.appendDeadLetter(letter({ payload }), resolve);
      journal.commitSoon();
    });
  }
  const clock = new ProcessingLine().clock;
  const parts = { journal, clock, rulesOf: () => openRules(), processors: new Map() };
  const reports = await Promise.all(
    [1, 2, 3].map(() => createRedelivery(parts).replay("in", 0, 100)),
  );
  assert.equal(
    reports.reduce((sum, { replayed }) => sum + replayed, 0),
    100,
  );
  const sent = await texts(journal, "in");
  assert.equal(new Set(sent).size, 100);
  assert.equal(sent.length, 100);
  assert.equal(journal.status().streams.get("in")?.deadLetters, 0);
});

test("a unit of work that takes a letter is refused as a whole when the letter is gone", async (t) => {
  const { journal } = await openJournal(t, { linger: 1 });
  await append(journal, "in", event("x"));
  const unit = {
    group: "dlq",
    cursors: [],
    emits: [{ stream: "in", event: event("y") }],
    taken: [{ stream: "in", id: 7 }],
  };
  assert.equal(await journal.commit(unit, "soon"), "refused");
  assert.deepEqual(await texts(journal, "in"), ["x"]);
});

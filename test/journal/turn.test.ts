import assert from "node:assert/strict";
import { test } from "node:test";
import type { NewDeadLetter } from "../../src/journal/journal.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";

function letter(stream: string, more: Partial<NewDeadLetter> = {}): NewDeadLetter {
  return {
    stream,
    seq: null,
    origin: "processor",
    originName: "p",
    code: "HANDLER_FAILED",
    reason: "it threw",
    attempts: 5,
    firstFailedAt: 1,
    lastFailedAt: 2,
    key: null,
    time: 1,
    headers: {},
    payload: Buffer.from("x"),
    ...more,
  };
}

test("a unit that is taken back leaves no trace of the stream that it was to make", async (t) => {
  const before = await openJournal(t);
  const { journal, folder } = before;
  const deadLetters = [letter("new"), letter("new", { time: Number.NaN })];
  await assert.rejects(journal.commit({ group: "g", cursors: [], deadLetters }, "soon"));
  assert.equal(journal.status().streams.get("new")?.deadLetters ?? 0, 0);
  await append(journal, "new", event("a"));
  await append(journal, "other", event("b"));
  await journal.close();
  const after = await openJournal(t, { folder });
  assert.deepEqual(await texts(after.journal, "new"), ["a"]);
  assert.deepEqual(await texts(after.journal, "other"), ["b"]);
});

test("a unit that is taken back does not move the count of dead letters", async (t) => {
  const { journal } = await openJournal(t);
  await journal.commit({ group: "g", cursors: [], deadLetters: [letter("s")] }, "soon");
  const deadLetters = [letter("s"), letter("s", { time: Number.NaN })];
  await assert.rejects(journal.commit({ group: "g", cursors: [], deadLetters }, "soon"));
  await append(journal, "s", event("a"));
  assert.equal(journal.status().streams.get("s")?.deadLetters, 1);
  assert.equal((await journal.readDeadLetters("s", 10)).length, 1);
});

test("dead letters never take a small journal for themselves", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: 2 << 20,
    linger: 0,
    groups: [{ group: "g", streams: ["s"] }],
  });
  let settled = 0;
  const bad = (n: number): Promise<void> =>
    new Promise((resolve) => {
      const payload = crypto.getRandomValues(new Uint8Array(20_000));
      journal.appendDeadLetter(letter(`s${n % 5}`, { payload }), () => {
        settled++;
        resolve();
      });
    });
  for (let n = 0; n < 300; n++) {
    if (journal.status().full) break;
    await Promise.race([bad(n), new Promise((resolve) => setTimeout(resolve, 3000).unref())]);
  }
  assert.equal(settled, 300);
  await append(journal, "s", event("good"));
  assert.deepEqual(await texts(journal, "s"), ["good"]);
});

test("appendDeadLetter() fails on what the disk would refuse for ever, and goes on with the next", async (t) => {
  const { journal } = await openJournal(t);
  const nothing = (): undefined => undefined;
  assert.throws(() => journal.appendDeadLetter(letter("s", { time: Number.NaN }), nothing));
  await append(journal, "s", event("a"));
  assert.deepEqual(await texts(journal, "s"), ["a"]);
});

import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { FakeClock } from "../support/fake-clock.ts";
import { append, event, openJournal } from "../support/test-journal.ts";

test("forgetPacketIds() forgets what still waits for its commit", async (t) => {
  const { journal } = await openJournal(t, { linger: 10_000 });
  const settled = new Promise<void>((resolve) =>
    journal.append("s", event("a"), resolve, { source: "m", id: 5 }),
  );
  journal.append("s", event("b"), () => undefined, { source: "other", id: 6 });
  await journal.forgetPacketIds("m");
  await settled;
  assert.deepEqual(await journal.readPacketIds("m"), []);
  assert.deepEqual(await journal.readPacketIds("other"), [
    { source: "other", id: 6, digest: null },
  ]);
});

test("forgetPacketIds() forgets what a full journal has not taken yet", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: 1 << 20,
    onFull: "reject",
    groups: [{ group: "g", streams: ["s"] }],
  });
  let settled = 0;
  let sent = 0;
  while (!journal.status().full) {
    if (journal.hasRoom()) {
      const payload = crypto.getRandomValues(new Uint8Array(20_000));
      journal.append("s", event(payload), () => settled++, { source: "m", id: ++sent });
    } else await delay(1);
  }
  await journal.forgetPacketIds("m");
  const kept = settled;
  assert.ok(kept < sent);
  const to = journal.status().streams.get("s")?.head ?? 0;
  await journal.commit({ group: "g", cursors: [{ stream: "s", from: 0, to }] }, "soon");
  await append(journal, "s", event("last"));
  assert.equal(settled, sent);
  assert.deepEqual(await journal.readPacketIds("m"), []);
});

test("commit() takes the bytes when it is called", async (t) => {
  const { journal } = await openJournal(t, { linger: 10_000 });
  const value = Buffer.from("before");
  const state = [{ space: "p", key: "k", value }];
  const done = journal.commit({ group: "g", cursors: [], state }, "linger");
  value.fill("x");
  journal.commitSoon();
  assert.equal(await done, "committed");
  assert.equal(Buffer.from((await journal.readState("p", "k")) ?? []).toString(), "before");
});

test("append() fails on a time that is no number, and goes on with the next", async (t) => {
  const { journal } = await openJournal(t);
  for (const time of [Number.POSITIVE_INFINITY, Number.NaN, 1e300]) {
    assert.throws(() => journal.append("s", event("a", { time }), () => undefined), /time/);
  }
  await append(journal, "s", event("b"));
  assert.equal((await journal.read("s", 0, 10, 1000)).events.length, 1);
});

test("a burst becomes chunks of 1,024 events, read in order", async (t) => {
  const { journal } = await openJournal(t, { linger: 10_000 });
  let settled = 0;
  for (let n = 1; n <= 5000; n++) journal.append("s", event(String(n)), () => settled++);
  await append(journal, "s", event("5001"));
  assert.equal(settled, 5000);
  const { events } = await journal.read("s", 1000, 10_000, 1 << 20);
  assert.deepEqual(
    events.map(({ seq, payload }) => [seq, Number(Buffer.from(payload).toString())]),
    Array.from({ length: 4001 }, (_, index) => [index + 1001, index + 1001]),
  );
});

test("a turn that has nothing to write is no commit", async (t) => {
  const clock = new FakeClock();
  const { journal, context } = await openJournal(t, { clock });
  const done = append(journal, "s", event("a"));
  journal.commitSoon();
  await done;
  const commits = context.sums.get("holdfast_journal_commits_total{}");
  assert.equal(commits, 1);
  for (let upkeep = 0; upkeep < 5; upkeep++) {
    clock.advance(6000);
    // Answered after the upkeep's turn, since the worker takes one after the other.
    await journal.readState("p", "k");
  }
  assert.equal(context.sums.get("holdfast_journal_commits_total{}"), commits);
});

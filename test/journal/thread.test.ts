import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import Database from "better-sqlite3";
import { test } from "node:test";
import type { Worker } from "node:worker_threads";
import { systemClock } from "../../src/core/clock.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal } from "../support/test-journal.ts";

test("commit(), purgeDeadLetters() and forgetPacketIds() reject once the journal is closed", async (t) => {
  const { journal } = await openJournal(t);
  await journal.close();
  const code = "JOURNAL_UNAVAILABLE";
  await assert.rejects(journal.commit({ group: "g", cursors: [] }, "soon"), { code });
  await assert.rejects(journal.purgeDeadLetters("s"), { code });
  await assert.rejects(journal.forgetPacketIds("m"), { code });
});

test("read() gives nothing that was passed and went since, though it was read just before", async (t) => {
  const groups = [{ group: "g", streams: ["s"] }];
  const { journal } = await openJournal(t, { groups, linger: 0, maxBytes: 1 << 20 });
  for (let n = 0; n < 5; n++) await append(journal, "s", event(randomBytes(1_000)));
  assert.equal((await journal.read("s", 0, 10, 1 << 20)).events.length, 5);
  await journal.commit({ group: "g", cursors: [{ stream: "s", from: 0, to: 5 }] }, "soon");
  for (let n = 0; journal.status().streams.get("s")?.first !== 6; n++) {
    assert.ok(n < 200, "what was passed goes first");
    await append(journal, "other", event(randomBytes(10_000)));
  }
  assert.deepEqual((await journal.read("s", 0, 10, 1 << 20)).events, []);
});

test("an event waits the linger as it is now, up to a minute, and no longer", async (t) => {
  const clock = new FakeClock();
  let linger = 1_000;
  const setup = journalSetup(`${tempDir(t)}/journal.db`, {}, { lingerMs: () => linger });
  const journal = createJournal(recordingContext("journal", clock), setup);
  t.after(() => journal.close());
  await journal.open([]);
  for (linger of [1_000, 8_000, 60_000]) {
    let settled = 0;
    journal.append("s", event("x"), () => settled++);
    for (let waitedMs = 0; waitedMs < linger; waitedMs += 500) {
      // A commit that was begun would be done after a turn that waits for the disk.
      await journal.readState("s", "k");
      assert.equal(settled, 0, `after ${waitedMs} of ${linger} ms`);
      clock.advance(500);
    }
    await until("it to be committed", () => settled === 1);
  }
});

test("close() may be called again while it closes, and still closes in order", async (t) => {
  const { journal, path } = await openJournal(t);
  await append(journal, "s", event("a"));
  const first = journal.close();
  await Promise.resolve();
  await Promise.resolve();
  await Promise.all([first, journal.close()]);
  const db = new Database(path);
  t.after(() => db.close());
  const open = db.prepare("SELECT value FROM meta WHERE name = 'open-in-boot'").pluck().get();
  assert.equal(open, "", "the file is still marked as open");
});

test("a worker that dies is told once, and what it had not written is never settled", async (t) => {
  const path = `${tempDir(t)}/journal.db`;
  const told: string[] = [];
  const workers: Worker[] = [];
  const seen = (worker: Worker): number => workers.push(worker);
  process.on("worker", seen);
  t.after(() => process.off("worker", seen));
  const journal = createJournal(
    recordingContext(
      "journal",
      systemClock(() => "synced"),
    ),
    journalSetup(
      path,
      { linger: 60_000, onFull: "reject" },
      { onFatal: ({ code }) => told.push(code) },
    ),
  );
  t.after(() => journal.close());
  await journal.open([]);
  let settled = 0;
  journal.append("s", event("a"), () => settled++);
  const [worker] = workers;
  assert.ok(worker !== undefined);
  const exit = once(worker, "exit");
  await worker.terminate();
  await exit;
  await assert.rejects(journal.commit({ group: "g", cursors: [] }, "soon"), {
    code: "JOURNAL_UNAVAILABLE",
  });
  assert.deepEqual([told, settled], [["JOURNAL_UNAVAILABLE"], 0]);
});

test("read() puts times right once the boot's offset is known, also of what was just read", async (t) => {
  const clock = new FakeClock();
  clock.clockQuality = "unsynced";
  clock.wall = 0;
  const { journal } = await openJournal(t, { clock });
  const add = async (text: string): Promise<void> => {
    const one = event(text, { time: clock.wall, receivedAt: clock.wall });
    const done = append(journal, "s", one);
    journal.commitSoon();
    await done;
  };
  await add("before");
  const [early] = (await journal.read("s", 0, 10, 1000)).events;
  assert.deepEqual([early?.clock, early?.receivedAt], ["unsynced", 0]);
  clock.wall = Date.UTC(2026, 0, 1);
  clock.clockQuality = "synced";
  await add("after");
  const [late] = (await journal.read("s", 0, 10, 1000)).events;
  assert.deepEqual([late?.clock, late?.receivedAt], ["synced", clock.wall]);
});

test("commit() of what cannot be handed to the worker is fatal, never a silent stall", async (t) => {
  const path = `${tempDir(t)}/journal.db`;
  const told: string[] = [];
  const journal = createJournal(
    recordingContext("journal"),
    journalSetup(
      path,
      { linger: 60_000, onFull: "reject" },
      { onFatal: ({ code }) => told.push(code) },
    ),
  );
  t.after(() => journal.close());
  await journal.open([]);
  const value = (() => undefined) as unknown as Uint8Array;
  const state = [{ space: "p", key: "k", value }];
  await assert.rejects(journal.commit({ group: "g", cursors: [], state }, "soon"));
  assert.deepEqual(told, ["JOURNAL_UNAVAILABLE"]);
});

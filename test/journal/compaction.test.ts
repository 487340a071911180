import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { compactPathOf } from "../../src/journal/compaction.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { fill, holedGroups as groups, openLargeHoled, text } from "../support/holed-journal.ts";
import { spoil } from "../support/damaged-journal.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal, texts, type TestJournal } from "../support/test-journal.ts";

/** Of 2,000 events in `s` 1,500 are passed and trimmed, since 10 in `t` need the room. */
async function holed(opened: TestJournal): Promise<void> {
  const { journal } = opened;
  for (let from = 1; from <= 2000; from += 100) await fill(journal, "s", from, from + 99);
  await fill(journal, "t", 1, 10);
  await journal.commit(
    {
      group: "g",
      cursors: [{ stream: "s", from: 0, to: 1500, mark: "here" }],
      state: [{ space: "p", key: "k", value: Buffer.from("kept") }],
      deadLetters: [
        {
          ...event("bad"),
          stream: "s",
          seq: 7,
          origin: "sink",
          originName: "g",
          code: "SINK_REFUSED",
          reason: "no",
          attempts: 1,
          firstFailedAt: 1,
          lastFailedAt: 2,
        },
      ],
    },
    "soon",
  );
}

test("compact() gives back what is not used, while events come in, and keeps all else", async (t) => {
  const folder = tempDir(t);
  const streams = new Map([["s", { maxBytes: 700_000 }]]);
  let opened = await openJournal(t, { folder, groups });
  await holed(opened);
  await opened.journal.close();
  opened = await openJournal(t, { folder, groups, streams, linger: 5 });
  const { journal, path } = opened;
  // The stream's quota trims at the first turn.
  await fill(journal, "t", 11, 20);
  const { epoch } = journal.identity();
  const { first } = journal.status().streams.get("s") ?? { first: 0 };
  assert.ok(first > 600 && first <= 1501, `${first}`);
  const fed: Promise<void>[] = [];
  const done = journal.compact();
  for (let seq = 2001; seq <= 2100; seq++) {
    fed.push(append(journal, "s", event(text(seq))));
    journal.commitSoon();
    if (seq % 10 === 0) await fed.at(-1);
  }
  await journal.commit(
    {
      group: "g",
      cursors: [{ stream: "t", from: 0, to: 5 }],
      state: [{ space: "p", key: "k2", value: Buffer.from("later") }],
    },
    "soon",
  );
  const { beforeBytes, afterBytes } = await done;
  await Promise.all(fed);
  assert.ok(afterBytes < beforeBytes * 0.8, `${beforeBytes} to ${afterBytes}`);
  const check = async (now: Journal): Promise<void> => {
    const kept = now.status().streams.get("s")?.first ?? 0;
    assert.deepEqual(
      await texts(now, "s", kept - 1),
      Array.from({ length: 2100 - kept + 1 }, (_, index) => text(kept + index)),
    );
    assert.equal((await texts(now, "t")).length, 20);
    assert.deepEqual(now.cursor("g", "s"), { seq: 1500, mark: "here" });
    assert.equal(now.cursor("g", "t").seq, 5);
    assert.equal(Buffer.from((await now.readState("p", "k")) ?? []).toString(), "kept");
    assert.equal(Buffer.from((await now.readState("p", "k2")) ?? []).toString(), "later");
    assert.equal((await now.readDeadLetters("s", 10)).length, 1);
    assert.equal(now.identity().epoch, epoch);
  };
  await check(journal);
  await fill(journal, "t", 21, 21);
  await journal.close();
  assert.ok(statSync(path).size <= afterBytes + 200_000, `${statSync(path).size}`);
  assert.deepEqual(
    readdirSync(folder).filter((name) => !name.endsWith("-reserve")),
    ["journal.db"],
  );
  const again = await openJournal(t, { folder, groups });
  assert.equal((await texts(again.journal, "t")).length, 21);
  assert.equal(again.journal.cursor("g", "s").seq, 1500);
  await again.journal.close();
});

test("compact() of a file with little to give back leaves it alone", async (t) => {
  const { journal, path } = await openJournal(t);
  await fill(journal, "s", 1, 100);
  const { beforeBytes, afterBytes } = await journal.compact();
  assert.equal(beforeBytes, afterBytes);
  assert.ok(!existsSync(compactPathOf(path)));
});

test("a second long work is refused, and close() ends the first without a trace", async (t) => {
  const folder = tempDir(t);
  let { journal } = await openLargeHoled(t, folder);
  const first = journal.compact();
  await assert.rejects(journal.check(), { code: "JOURNAL_BUSY" });
  const ended = assert.rejects(first);
  await journal.close();
  await ended;
  ({ journal } = await openJournal(t, { folder, groups }));
  assert.ok(!existsSync(compactPathOf(join(folder, "journal.db"))));
  assert.equal((await texts(journal, "s", 40)).length, 1);
});

test("check() reads everything through and names what is damaged", async (t) => {
  const folder = tempDir(t);
  let { journal, path } = await openJournal(t, { folder, groups });
  await fill(journal, "s", 1, 3000);
  for (let seq = 1; seq <= 5; seq++) await append(journal, "t", event(`short ${seq}`));
  const { events, damaged, bytes } = await journal.check();
  assert.equal(events, 3005);
  assert.ok(bytes > 100_000);
  assert.deepEqual(damaged, []);
  await journal.close();
  spoil(path, "short 3");
  ({ journal, path } = await openJournal(t, { folder, groups }));
  const later = await journal.check();
  assert.deepEqual([later.events, later.damaged], [3004, [{ stream: "t", from: 3, to: 3 }]]);
});

test("check() takes nothing for damage that comes in or goes while it reads", async (t) => {
  const { journal } = await openJournal(t, { groups, linger: 0 });
  await fill(journal, "s", 1, 200);
  await fill(journal, "t", 1, 200);
  const over = new AbortController();
  // The last stream of the file, and one amid it, grow, and the oldest of it is passed.
  const feeding = (async () => {
    for (let seq = 201; !over.signal.aborted; seq++) {
      await Promise.all([fill(journal, "s", seq, seq), fill(journal, "t", seq, seq)]);
      const from = journal.cursor("g", "t").seq;
      await journal.commit({ group: "g", cursors: [{ stream: "t", from, to: seq - 1 }] }, "soon");
    }
  })();
  const found = [];
  for (let round = 0; round < 20; round++) found.push(...(await journal.check()).damaged);
  over.abort();
  await feeding;
  assert.deepEqual(found, []);
});

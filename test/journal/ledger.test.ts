import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { chunkId, Ledger } from "../../src/journal/ledger.ts";
import { openDatabase } from "../../src/journal/sqlite.ts";
import { tempDir } from "../support/temp-dir.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { openJournal, type JournalOptions } from "../support/test-journal.ts";

/** The file as a power cut leaves it, opened in the next boot. */
async function afterPowerCut(t: TestContext, before: JournalOptions, after: JournalOptions) {
  const first = await openJournal(t, { ...before, clock: new FakeClock() });
  const folder = join(first.folder, "copy");
  mkdirSync(folder);
  for (const suffix of ["", "-wal"]) {
    const from = `${first.path}${suffix}`;
    if (existsSync(from)) copyFileSync(from, join(folder, `journal.db${suffix}`));
  }
  const clock = new FakeClock();
  clock.bootId = "00000000-0000-4000-8000-000000000002";
  const second = await openJournal(t, { ...after, folder, clock });
  return { was: first.journal.identity(), is: second.journal.identity() };
}

test("open() doubts the history by what was promised before the power cut, not by what is now", async (t) => {
  const forked = await afterPowerCut(t, { durability: "crash" }, { durability: "power-loss" });
  assert.notEqual(forked.is.epoch, forked.was.epoch);
  assert.equal(forked.is.parent, forked.was.epoch);
  const kept = await afterPowerCut(t, { durability: "power-loss" }, { durability: "crash" });
  assert.equal(kept.is.epoch, kept.was.epoch);
});

test("open() learns a board that could not be told at first, and then notices another", async (t) => {
  const unknown = await openJournal(t, { board: null });
  const { epoch } = unknown.journal.identity();
  await unknown.journal.close();
  const { folder } = unknown;
  const learned = await openJournal(t, { folder, board: "a" });
  assert.equal(learned.journal.identity().epoch, epoch);
  await learned.journal.close();
  const other = await openJournal(t, { folder, board: "b" });
  assert.notEqual(other.journal.identity().epoch, epoch);
});

test("load() leaves a group that has not moved where it was told it stands, when the file is opened again", (t) => {
  const path = join(tempDir(t), "journal.db");
  const db = openDatabase({ path, synchronous: "FULL", maxBytes: 1 << 20 });
  t.after(() => db.close());
  db.exec("INSERT INTO stream (id, name) VALUES (1, 's')");
  const put = db.prepare("INSERT INTO chunk VALUES (?, ?, 1, ?, 1, 0, 1, 1, x'00')");
  for (const seq of [1, 2, 3]) put.run(chunkId(1, seq), seq, seq);
  const groups = [{ group: "g", streams: ["s"] }];
  const before = new Ledger(db);
  before.load(groups);
  db.exec("DELETE FROM chunk WHERE last < 3");
  const again = new Ledger(db);
  again.load(groups, before);
  // The main thread still says 0; a unit that starts there must not be refused for ever.
  assert.equal(again.cursor("g", "s").seq, 0);
  const anew = new Ledger(db);
  anew.load(groups);
  assert.equal(anew.cursor("g", "s").seq, 2);
});

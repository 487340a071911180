import assert from "node:assert/strict";
import { test } from "node:test";
import { append, event, openJournal } from "../support/test-journal.ts";
import type { Journal } from "../../src/journal/journal.ts";

async function epochsOf(journal: Journal, stream: string): Promise<string[]> {
  const { events } = await journal.read(stream, 0, 1000, 1 << 20);
  return events.map(({ epoch }) => epoch);
}

test("beginEpoch() gives what is kept from a seq on, and all that comes, to a new epoch; its parent is the old one", async (t) => {
  const { journal, folder } = await openJournal(t, { linger: 1 });
  for (let seq = 1; seq <= 6; seq++) await append(journal, "readings", event(`${seq}`));
  await append(journal, "alarms", event("1"));
  const old = journal.identity().epoch;
  assert.deepEqual(await epochsOf(journal, "readings"), Array(6).fill(old));
  const identity = await journal.beginEpoch({ from: new Map([["readings", 4]]), reason: "fork" });
  assert.equal(identity.parent, old);
  assert.deepEqual(journal.identity(), identity);
  await append(journal, "readings", event("7"));
  await append(journal, "alarms", event("2"));
  const { epoch } = identity;
  const readings = [old, old, old, epoch, epoch, epoch, epoch];
  assert.deepEqual(await epochsOf(journal, "readings"), readings);
  assert.deepEqual(await epochsOf(journal, "alarms"), [old, epoch]);
  await journal.close();
  const again = await openJournal(t, { folder });
  assert.equal(again.journal.identity().epoch, epoch);
  assert.deepEqual(await epochsOf(again.journal, "readings"), readings);
});

test("of two epochs that took over a seq the later one counts; the rest stays where it was", async (t) => {
  const { journal } = await openJournal(t, { linger: 1 });
  for (let seq = 1; seq <= 5; seq++) await append(journal, "readings", event(`${seq}`));
  const first = journal.identity().epoch;
  const second = await journal.beginEpoch({ from: new Map([["readings", 4]]), reason: "a" });
  await append(journal, "readings", event("6"));
  const third = await journal.beginEpoch({ from: new Map([["readings", 3]]), reason: "b" });
  await append(journal, "readings", event("7"));
  const late = third.epoch;
  assert.deepEqual(await epochsOf(journal, "readings"), [
    first,
    first,
    late,
    late,
    late,
    late,
    late,
  ]);
  const fourth = await journal.beginEpoch({ from: new Map([["readings", 6]]), reason: "c" });
  assert.deepEqual((await epochsOf(journal, "readings")).slice(4), [
    late,
    fourth.epoch,
    fourth.epoch,
  ]);
  assert.equal(fourth.parent, late);
  assert.equal(third.parent, second.epoch);
});

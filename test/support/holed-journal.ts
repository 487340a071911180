/** A journal whose file holds much more than it uses: most of what was in it is passed and trimmed. */
import { createHash, randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import type { Journal } from "../../src/journal/journal.ts";
import { append, event, openJournal, type TestJournal } from "./test-journal.ts";

export const holedGroups = [{ group: "g", streams: ["s", "t"] }];
/** Nothing that compresses. */
export const text = (seq: number): string =>
  `${seq} ${createHash("shake256", { outputLength: 600 }).update(`${seq}`).digest("base64")}`;

export async function fill(
  journal: Journal,
  stream: string,
  from: number,
  to: number,
): Promise<void> {
  const settled = [];
  for (let seq = from; seq <= to; seq++) settled.push(append(journal, stream, event(text(seq))));
  journal.commitSoon();
  await Promise.all(settled);
}

/** Of 2,001 events in `s` the last 700 or so are kept. */
export async function openHoled(t: TestContext, folder: string): Promise<TestJournal> {
  const { journal } = await openJournal(t, { folder, groups: holedGroups });
  for (let from = 1; from <= 2000; from += 100) await fill(journal, "s", from, from + 99);
  await journal.commit({ group: "g", cursors: [{ stream: "s", from: 0, to: 2000 }] }, "soon");
  await journal.close();
  const streams = new Map([["s", { maxBytes: 500_000 }]]);
  const opened = await openJournal(t, { folder, groups: holedGroups, streams });
  await fill(opened.journal, "s", 2001, 2001);
  return opened;
}

/** Of so many slices that a compaction of it lasts longer than a few requests. */
export async function openLargeHoled(t: TestContext, folder: string): Promise<TestJournal> {
  const { journal } = await openJournal(t, { folder, groups: holedGroups });
  await fillLarge(journal, "t", 300);
  await fillLarge(journal, "s", 40);
  await journal.commit({ group: "g", cursors: [{ stream: "s", from: 0, to: 40 }] }, "soon");
  await journal.close();
  const streams = new Map([["s", { maxBytes: 100_000 }]]);
  const opened = await openJournal(t, { folder, groups: holedGroups, streams });
  await fillLarge(opened.journal, "s", 1);
  return opened;
}

async function fillLarge(journal: Journal, stream: string, events: number): Promise<void> {
  for (let seq = 1; seq <= events; seq++) {
    const settled = append(journal, stream, event(randomBytes(100_000)));
    journal.commitSoon();
    await settled;
  }
}

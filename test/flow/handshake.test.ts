import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../src/core/event-digest.ts";
import { compare } from "../../src/flow/handshake.ts";
import type { Holding } from "../../src/sink/sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { storedEvent, testEpoch } from "../support/stored-event.ts";

function journalOf(count: number): ListJournal {
  const journal = new ListJournal();
  journal.append("readings", count);
  return journal;
}

/** As it would be noted of events like those of the journal. */
function held(from: number, to: number, epoch = testEpoch): Holding {
  return { epoch, from, to, digest: digestOf(storedEvent({ seq: to })) };
}

const cases: readonly {
  readonly name: string;
  readonly count: number;
  readonly first?: number;
  readonly cursor: number;
  readonly held: readonly Holding[];
  readonly verdict: object;
}[] = [
  { name: "nothing anywhere", count: 0, cursor: 0, held: [], verdict: { kind: "as-it-was" } },
  { name: "a first connection", count: 50, cursor: 0, held: [], verdict: { kind: "as-it-was" } },
  { name: "agreement", count: 50, cursor: 30, held: [held(1, 30)], verdict: { kind: "as-it-was" } },
  {
    name: "more than was noted",
    count: 50,
    cursor: 10,
    held: [held(1, 30)],
    verdict: { kind: "ahead", to: 30 },
  },
  {
    name: "two ranges, of which the second does not follow",
    count: 50,
    cursor: 10,
    held: [held(1, 30), held(35, 40)],
    verdict: { kind: "ahead", to: 30 },
  },
  {
    name: "less than was noted",
    count: 50,
    cursor: 40,
    held: [held(1, 30)],
    verdict: { kind: "behind", to: 30, lost: null },
  },
  {
    name: "nothing of what was noted, some of it trimmed",
    count: 50,
    first: 21,
    cursor: 40,
    held: [],
    verdict: { kind: "behind", to: 20, lost: { from: 1, to: 20 } },
  },
  {
    name: "less than was noted and than is kept",
    count: 50,
    first: 21,
    cursor: 40,
    held: [held(1, 12)],
    verdict: { kind: "behind", to: 20, lost: { from: 13, to: 20 } },
  },
  {
    name: "a sink that is new where the oldest were trimmed",
    count: 50,
    first: 21,
    cursor: 20,
    held: [],
    verdict: { kind: "as-it-was" },
  },
  {
    name: "more than the journal has",
    count: 50,
    cursor: 40,
    held: [held(1, 60)],
    verdict: { kind: "forked", from: 41, lost: null },
  },
  {
    name: "another event at one of our seqs",
    count: 50,
    cursor: 20,
    held: [{ ...held(1, 30), digest: "other" }],
    verdict: { kind: "forked", from: 21, lost: null },
  },
  {
    name: "another event where we have delivered ours",
    count: 50,
    first: 11,
    cursor: 40,
    held: [{ ...held(1, 30), digest: "other" }],
    verdict: { kind: "forked", from: 11, lost: { from: 1, to: 10 } },
  },
  {
    name: "epochs that are not ours",
    count: 50,
    cursor: 20,
    held: [held(1, 20), held(1, 900, "another")],
    verdict: { kind: "as-it-was" },
  },
];

for (const { name, count, first, cursor, held: ranges, verdict } of cases) {
  test(`compare(): ${name}`, async () => {
    const journal = journalOf(count);
    if (first !== undefined) journal.trim("readings", first);
    const found = await compare(journal, "readings", cursor, ranges);
    const { why, ...rest } = { why: "", ...found };
    assert.deepEqual(rest, verdict);
    assert.equal(why !== "", found.kind === "forked");
  });
}

test("compare() goes up to the end of an epoch of ours, however far the far side has gone on in it", async () => {
  const journal = journalOf(100);
  const { epoch } = await journal.beginEpoch({ from: new Map([["readings", 58]]), reason: "" });
  const far = [{ ...held(1, 200), digest: "not ours to know" }];
  assert.deepEqual(await compare(journal, "readings", 30, far), { kind: "ahead", to: 57 });
  const both = [...far, held(58, 70, epoch)];
  assert.deepEqual(await compare(journal, "readings", 30, both), { kind: "ahead", to: 70 });
});

test("compare() passes holes that thinning left", async () => {
  const journal = journalOf(100);
  journal.thin("readings", 90, 10);
  // Its last, 85, is not there any more.
  const far = [{ ...held(1, 85), digest: "gone" }];
  assert.deepEqual(await compare(journal, "readings", 12, far), { kind: "ahead", to: 81 });
});

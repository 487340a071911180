import assert from "node:assert/strict";
import { test } from "node:test";
import { tellEpoch } from "../../src/flow/epoch-notice.ts";
import { gapsStream, type Journal } from "../../src/journal/journal.ts";
import { recordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal } from "../support/test-journal.ts";

async function gaps(journal: Journal): Promise<Record<string, unknown>[]> {
  const { events } = await journal.read(gapsStream, 0, 100, 1_000_000);
  return events.map(({ payload }) => JSON.parse(String(Buffer.from(payload))) as object) as never;
}

async function appendMany(journal: Journal, stream: string, count: number): Promise<void> {
  for (let number = 0; number < count; number++) await append(journal, stream, event("x"));
}

test("tellEpoch() tells once where each stream goes on in a new epoch, and after which", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder, board: "board-1", linger: 1 });
  await appendMany(first.journal, "readings", 7);
  await appendMany(first.journal, "alarms", 2);
  const { epoch: parent } = first.journal.identity();
  const context = recordingContext("agent");
  await tellEpoch({ context, journal: first.journal });
  assert.deepEqual(await gaps(first.journal), [], "a first epoch is no news");
  await first.journal.close();

  // The card was put into another board.
  const second = await openJournal(t, { folder, board: "board-2", linger: 1 });
  const { journal } = second;
  const { epoch } = journal.identity();
  assert.notEqual(epoch, parent);
  // A crash has come before it could be told: events of the new epoch are there already.
  await appendMany(journal, "readings", 40);
  await tellEpoch({ context, journal });
  await tellEpoch({ context, journal });
  const reason = `epoch ${epoch} after ${parent}`;
  assert.deepEqual(
    (await gaps(journal)).toSorted((a, b) => Number(a["from"]) - Number(b["from"])),
    [
      { stream: "alarms", from: 3, to: 2, kept: 0, reason },
      { stream: "readings", from: 8, to: 7, kept: 0, reason },
    ],
  );
  await journal.close();
  const third = await openJournal(t, { folder, board: "board-2" });
  await tellEpoch({ context, journal: third.journal });
  assert.equal((await gaps(third.journal)).length, 2);
});

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AbsentGroups } from "../../src/flow/absent-groups.ts";
import type { Journal, RetryRow } from "../../src/journal/journal.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** Groups `old` and `kept` stand at 2; `old` remembers something, and has an event that waits. */
async function prepared(t: TestContext): Promise<{ folder: string; clock: FakeClock }> {
  const folder = tempDir(t);
  const groups = ["old", "kept"].map((group) => ({ group, streams: ["s"] }));
  const { journal } = await openJournal(t, { folder, groups });
  for (const text of ["a", "b", "c"]) await append(journal, "s", event(text));
  const cursors = [{ stream: "s", from: 0, to: 2 }];
  const row: RetryRow = {
    event: storedEvent({ seq: 1, stream: "s" }),
    attempts: 1,
    dueAt: 0,
    firstFailedAt: 0,
    error: "E",
  };
  const state = ["old", "old/window", "older"].flatMap((space) =>
    ["k", "l"].map((key) => ({ space, key, value: Buffer.from("1") })),
  );
  await journal.commit(
    { group: "old", cursors, state, retries: { put: [row], remove: [] } },
    "soon",
  );
  await journal.commit({ group: "kept", cursors }, "soon");
  await journal.close();
  return { folder, clock: new FakeClock() };
}

interface Run {
  readonly journal: Journal;
  readonly absent: AbsentGroups;
  readonly warned: () => string[];
  readonly end: () => Promise<void>;
}

async function run(
  t: TestContext,
  folder: string,
  clock: FakeClock,
  present: readonly string[],
): Promise<Run> {
  const groups = present.map((group) => ({ group, streams: ["s"] }));
  const { journal } = await openJournal(t, { folder, groups });
  const context = recordingContext("agent", clock);
  const absent = new AbsentGroups({
    journal,
    clock,
    log: context.log,
    present: new Set(present),
    retentionMs: 30 * dayMs,
  });
  absent.start();
  return {
    journal,
    absent,
    warned: () =>
      context.lines.filter(({ level }) => level === "warn").map(({ message }) => message),
    async end() {
      absent.stop();
      await journal.close();
    },
  };
}

test("a group that is taken out is told, keeps its place, and goes on there when it comes back", async (t) => {
  const { folder, clock } = await prepared(t);
  const without = await run(t, folder, clock, ["kept"]);
  assert.deepEqual(without.absent.names(), ["old"]);
  await until("it to be noted", () => without.absent.since("old") === clock.wall);
  assert.match(without.warned().join("\n"), /Group old .*`holdfast groups drop old`/);
  assert.equal(without.warned().length, 1);
  await without.end();
  clock.wall += 20 * dayMs;
  const back = await run(t, folder, clock, ["kept", "old"]);
  assert.deepEqual(back.absent.names(), []);
  assert.equal(back.journal.cursor("old", "s").seq, 2);
  await until("the note to go", async () => {
    return (await back.journal.readStates("~absent", null, 10)).length === 0;
  });
  await back.end();
  // Its age begins anew.
  clock.wall += 20 * dayMs;
  const again = await run(t, folder, clock, ["kept"]);
  await until("it to be noted again", () => again.absent.since("old") === clock.wall);
  assert.deepEqual(again.absent.names(), ["old"]);
  await again.end();
});

test("drop() forgets an absent group with all that it had, for good, and nothing of another", async (t) => {
  const { folder, clock } = await prepared(t);
  const first = await run(t, folder, clock, ["kept"]);
  await first.absent.drop("old");
  const check = async ({ journal, absent }: Run): Promise<void> => {
    assert.deepEqual(absent.names(), []);
    assert.deepEqual(
      journal.status().groups.map(({ group, cursor }) => [group, cursor]),
      [["kept", 2]],
    );
    assert.deepEqual(await journal.readRetries("old"), []);
    assert.deepEqual(
      (await journal.readStateSpaces()).map(({ space, keys }) => [space, keys]),
      [["older", 2]],
    );
  };
  await check(first);
  await first.end();
  const second = await run(t, folder, clock, ["kept"]);
  await check(second);
  await second.end();
  // One of that name begins as a new one does: before the oldest event that is kept.
  const third = await run(t, folder, clock, ["old"]);
  assert.equal(third.journal.cursor("old", "s").seq, 0);
  await third.end();
});

test("an absent group goes by age, which an unsynced clock does not count", async (t) => {
  const { folder, clock } = await prepared(t);
  const first = await run(t, folder, clock, ["kept"]);
  await until("it to be noted", () => first.absent.since("old") !== null);
  await first.end();
  clock.wall += 400 * dayMs;
  clock.clockQuality = "unsynced";
  const { absent, end } = await run(t, folder, clock, ["kept"]);
  await until("the note to be read", () => absent.since("old") !== null);
  clock.advance(2 * hourMs);
  await until("the next look", () => absent.since("old") !== null);
  assert.deepEqual(absent.names(), ["old"]);
  clock.clockQuality = "synced";
  clock.advance(hourMs);
  await until("its end", () => absent.names().length === 0);
  await end();
});

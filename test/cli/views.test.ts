/** What people and programs read: status, streams, groups, tail and the dead letters. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { runCommandLine } from "../../src/cli/commands.ts";
import { createDlqPurge } from "../../src/cli/dlq-purge.ts";
import { recordingIo } from "../support/recording-io.ts";
import { servedAdmin, type ServedAdmin } from "../support/served-admin.ts";
import { deadLetter } from "../support/shelf-journal.ts";
import { storedEvent, storedEvents } from "../support/stored-event.ts";
import { until } from "../support/until.ts";

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function opened(
  t: TestContext,
): Promise<ServedAdmin & { run: (...argv: string[]) => Promise<Run> }> {
  const served = await servedAdmin(t);
  return {
    ...served,
    async run(...argv) {
      const io = recordingIo();
      const code = await runCommandLine([...argv, "--url", served.url], io, "0.1.0");
      return { code, out: io.stdout(), err: io.stderr() };
    },
  };
}

/** A sink that nobody asks to go back. */
const standing = {
  from: ["readings"],
  rewind: () => Promise.reject(new Error("Nobody asked for a replay")),
};

test("status says what is wrong before it lists the parts", async (t) => {
  const { run, health, journal } = await opened(t);
  health.component("agent", "journal").figures(() => ({ usedBytes: 512, maxBytes: 1024 }));
  health.component("source", "greenhouse");
  health.component("sink", "cloud").report("failing", "Cannot reach up.example:\u001b[31m refused");
  journal.put(...storedEvents(1, 30));
  journal.groups.push({ group: "cloud", stream: "readings", cursor: 10 });
  const { code, out } = await run("status");
  assert.equal(code, 0);
  assert.match(out, /^DEGRADED {2}greenhouse-1, up 1s, holdfast 0\.1\.0\n/);
  assert.match(
    out,
    /\nsink cloud: failing for .+\n {2}Cannot reach up\.example:\\u001b\[31m refused\n/,
  );
  assert.match(out, /^journal +agent +ok +\d.* {2}512 B of 1\.0 KiB used \(50 %\)$/m);
  assert.match(out, /^greenhouse +source +ok/m);
  assert.match(out, /^cloud +readings +20 +10$/m);
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(out, /\u001b/, "no colours where nobody sees them");
});

test("status ends with 1 when the agent is failing, and --json is one line of JSON", async (t) => {
  const { run, health } = await opened(t);
  health.component("agent", "journal").report("failing", "The disk is gone");
  const { code, out } = await run("status", "--json");
  assert.equal(code, 1);
  assert.equal(out.split("\n").length, 2);
  const value = JSON.parse(out) as { status: string; groups: unknown[] };
  assert.deepEqual([value.status, value.groups], ["failing", []]);
});

test("status is coloured on a terminal", async (t) => {
  const { url, health } = await opened(t);
  health.component("sink", "cloud").report("degraded", "Slow");
  const io = recordingIo(true);
  await runCommandLine(["status", "--url", url], io, "0.1.0");
  // oxlint-disable-next-line no-control-regex
  assert.match(io.stdout(), /\u001b\[33mdegraded/);
});

test("streams aligns its columns", async (t) => {
  const { run, journal } = await opened(t);
  journal.put(...storedEvents(1, 1200));
  journal.letters.push(deadLetter());
  const { out } = await run("streams");
  assert.equal(
    out,
    `STREAM    FORMAT  EVENTS     SEQ      SIZE  DEAD LETTERS
frames    bytes        0               0 B
notes     text         0               0 B
readings  json     1,200  1–1200  10.6 KiB             1
`,
  );
  const { streams } = JSON.parse((await run("streams", "--json")).out) as { streams: unknown[] };
  assert.equal(streams.length, 3);
});

test("groups shows lag and cursor", async (t) => {
  const { run, journal } = await opened(t);
  journal.put(...storedEvents(1, 5000));
  journal.groups.push({ group: "cloud", stream: "readings", cursor: 1000 });
  assert.match((await run("groups")).out, /^cloud +readings +4,000 +1000$/m);
});

test("tail shows the last ten, or what --from asks for", async (t) => {
  const { run, journal } = await opened(t);
  journal.put(...storedEvents(1, 50, { key: "e1" }));
  const shown = (out: string): number[] =>
    [...out.matchAll(/^ *(\d+) /gm)].map((match) => Number(match[1]));
  const { out } = await run("tail", "readings");
  assert.deepEqual(shown(out), [41, 42, 43, 44, 45, 46, 47, 48, 49, 50]);
  assert.match(out, /^ {4}41 {2}2026-01-01 00:00:00Z {2}e1 {2}\{"n":41\}$/m);
  assert.deepEqual(shown((await run("tail", "readings", "--from", "-2")).out), [49, 50]);
  assert.deepEqual(shown((await run("tail", "readings", "--from=49")).out), [49, 50]);
  assert.equal(shown((await run("tail", "readings", "--from", "1")).out).length, 50);
  const lines = (await run("tail", "readings", "--from", "-2", "--json")).out.trim().split("\n");
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { seq: number }).seq),
    [49, 50],
  );
  const unknown = await run("tail", "redings");
  assert.equal(unknown.code, 1);
  assert.equal(
    unknown.err,
    "holdfast: The agent refused: There is no stream redings; there is frames, notes, readings\n",
  );
});

test("tail lets no escape sequence of a device through to the terminal", async (t) => {
  const { run, journal } = await opened(t);
  journal.put(
    storedEvent({ stream: "notes", key: "\u001b]0;x", payload: Buffer.from("\u009b2J clear") }),
  );
  const { out } = await run("tail", "notes");
  assert.match(out, /\\u001b\]0;x {2}\\u009b2J clear\n$/);
});

test("tail --follow goes on, and says so when the agent ends", async (t) => {
  const { url, journal, ...served } = await opened(t);
  const io = recordingIo();
  const ended = runCommandLine(["tail", "readings", "--follow", "--url", url], io, "0.1.0");
  await until("the follower to wait", () => journal.listeners() === 1);
  journal.put(...storedEvents(1, 2));
  await until("two lines", () => io.stdout().split("\n").length === 3);
  await served.close();
  assert.equal(await ended, 1);
  assert.match(io.stderr(), /^holdfast: Cannot reach the agent .*\n$/);
});

test("dlq-inspect shows reason, origin, headers and payload", async (t) => {
  const { run, journal } = await opened(t);
  assert.equal((await run("dlq-inspect", "readings")).out, "Stream readings has no dead letters\n");
  journal.letters.push(...[1, 2, 3].map((id) => deadLetter({ id, attempts: id })));
  const { code, out } = await run("dlq-inspect", "readings", "--limit", "2");
  assert.equal(code, 0);
  assert.equal(
    out,
    `Stream readings: the oldest 2 of 3 dead letters

#1  2026-01-01 00:00:00Z  EVENT_INVALID
  Payload does not fit: temperature: expected a number, found a string
  origin   source greenhouse, never entered
  topic    greenhouse/e1/env
  payload  {"temperature":"warm"}

#2  2026-01-01 00:00:00Z  EVENT_INVALID
  Payload does not fit: temperature: expected a number, found a string
  origin   source greenhouse, never entered
  tried    2 times since 2026-01-01 00:00:00Z
  topic    greenhouse/e1/env
  payload  {"temperature":"warm"}
`,
  );
});

test("dlq-purge removes with --yes, and not without where nobody can be asked", async (t) => {
  const { run, journal } = await opened(t);
  journal.letters.push(deadLetter(), deadLetter({ id: 2 }));
  const { code, err } = await run("dlq-purge", "readings");
  assert.equal(code, 2);
  assert.match(err, /add --yes/);
  assert.equal(journal.letters.length, 2);
  const { out } = await run("dlq-purge", "readings", "--yes");
  assert.equal(out, "Removed 2 dead letters of stream readings\n");
  assert.equal(journal.letters.length, 0);
});

test("dlq-purge asks on a terminal, and takes only a yes", async (t) => {
  const { url, journal } = await opened(t);
  journal.letters.push(deadLetter());
  const questions: string[] = [];
  const answering = async (answer: string): Promise<number> => {
    const ask = async (question: string): Promise<string> => {
      questions.push(question);
      return answer;
    };
    return createDlqPurge(ask).run(["readings", "--url", url], recordingIo(true));
  };
  assert.equal(await answering(""), 1);
  assert.equal(await answering("no"), 1);
  assert.equal(journal.letters.length, 1);
  assert.equal(await answering("y"), 0);
  assert.equal(journal.letters.length, 0);
  assert.equal(questions[0], "Remove 1 dead letter of stream readings for good? [y/N] ");
  assert.equal(await answering("never asked"), 0);
  assert.equal(questions.length, 3);
});

test("sync asks a sink to deliver, waits for it, and tells how that ended", async (t) => {
  const { run, sinks, health } = await opened(t);
  const cloud = health.component("sink", "cloud");
  let [waiting, asked] = [7, 0];
  sinks.set("cloud", {
    ...standing,
    lag: () => new Map([["readings", waiting]]),
    sync: () => void (asked += 1),
    // One more look, then it is done.
    syncing: () => (waiting > 0 && asked > 0 ? (waiting -= 7) + 7 : null),
  });
  const done = await run("sync");
  assert.deepEqual(done, { code: 0, out: "Sink cloud has delivered all that waited\n", err: "" });
  assert.equal(asked, 1);
  waiting = 1_500;
  sinks.set("cloud", {
    ...standing,
    lag: () => new Map([["readings", waiting]]),
    sync: () => {},
    syncing: () => null,
  });
  cloud.report("degraded", "Cannot deliver to up.example: it is away");
  const failed = await run("sync", "cloud");
  assert.equal(failed.code, 1);
  assert.match(
    failed.out,
    /^Sink cloud could not deliver, 1,500 events wait: Cannot deliver to up/,
  );
  const unknown = await run("sync", "clod");
  assert.equal(unknown.code, 1);
  assert.match(unknown.err, /There is no sink clod; there is cloud/);
  const json = await run("sync", "--json");
  assert.equal((JSON.parse(json.out) as { sinks: { waiting: number }[] }).sinks[0]?.waiting, 1_500);
});

test("pause and resume let a group stand still and go on; groups shows it", async (t) => {
  const { run, journal } = await opened(t);
  journal.put(...storedEvents(1, 30));
  journal.groups.push({ group: "cloud", stream: "readings", cursor: 10 });
  const paused = await run("pause", "cloud");
  assert.deepEqual(
    [paused.code, paused.out],
    [0, "Group cloud stands still until it is resumed\n"],
  );
  assert.match((await run("groups")).out, /^cloud +readings +20 +10 +paused$/m);
  assert.equal((await run("resume", "cloud")).out, "Group cloud goes on\n");
  assert.doesNotMatch((await run("groups")).out, /paused/);
  const unknown = await run("pause", "clod");
  assert.equal(unknown.code, 1);
  assert.match(unknown.err, /There is no group clod; there is cloud/);
  assert.equal((await run("pause")).code, 2);
});

test("replay lets a sink go back to a seq or a time, and to a far side that has it only again", async (t) => {
  const { run, sinks } = await opened(t);
  const orders: unknown[] = [];
  sinks.set("cloud", {
    ...standing,
    lag: () => new Map(),
    sync: () => {},
    syncing: () => null,
    rewind(order) {
      orders.push(order);
      return Promise.resolve({ from: 17, cursor: 20, isShortened: false, removedKeys: 0 });
    },
  });
  const said = await run("replay", "cloud", "readings", "--from", "17", "--again");
  assert.deepEqual(said, {
    code: 0,
    out: "cloud goes back to seq 17 of readings: 4 events again\n",
    err: "",
  });
  await run("replay", "cloud", "readings", "--from", "2026-11-28T10:00:00Z");
  const time = Date.UTC(2026, 10, 28, 10);
  assert.deepEqual(orders, [
    { stream: "readings", from: { seq: 17 }, state: null, again: true },
    { stream: "readings", from: { time }, state: null, again: false },
  ]);
  assert.equal((await run("replay", "cloud", "readings", "--from", "soon")).code, 1);
  assert.equal((await run("replay", "clod", "readings", "--from", "1")).code, 1);
  assert.equal((await run("replay", "cloud", "alarms", "--from", "1")).code, 1);
  assert.equal((await run("replay", "cloud", "readings")).code, 2);
  assert.equal((await run("replay", "cloud", "--from", "1")).code, 2);
});

/** Whether what a power cut left is opened with all that was promised before it. */
import { join } from "node:path";
import type { Gap } from "../../src/journal/gaps.ts";
import { gapsStream, type Journal } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { readArchive } from "../support/archive.ts";
import { childAgent } from "../support/child-agent.ts";
import { journalSetup } from "../support/journal-setup.ts";
import {
  lastUnit,
  powerCutGroups,
  powerCutPayload,
  powerCutPolicies,
  powerCutTime,
  type PowerCutPolicy,
} from "../support/power-cut-payload.ts";
import { recordingContext } from "../support/recording-context.ts";
import { append, event, texts } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

/** What the recorded process was told before the cut. */
export interface Promised {
  readonly policy: PowerCutPolicy;
  /** Null: its journal was not open yet. */
  readonly epoch: string | null;
  readonly settled: number;
  readonly passed: number;
}

/** Each seventh unit leaves a dead letter (power-cut-child.ts). */
const seventh = 7;

/** Opens it with the journal's own recovery; null: every promise is kept. */
export async function problemOfJournal(folder: string, promised: Promised): Promise<string | null> {
  const { settings, streams } = powerCutPolicies[promised.policy];
  const setup = journalSetup(join(folder, "journal.db"), { ...settings, linger: 0 }, { streams });
  const journal = createJournal(recordingContext("journal"), setup);
  try {
    await journal.open(powerCutGroups);
    return (await problemOfOpen(journal, promised)) ?? (await problemOfOld(journal, promised));
  } finally {
    await journal.close();
  }
}

async function problemOfOpen(journal: Journal, promised: Promised): Promise<string | null> {
  const { seq: passed, mark } = journal.cursor("g", "s");
  const { head } = journal.status().streams.get("s") ?? { head: 0 };
  if (head < promised.settled)
    return `events to ${promised.settled} were acknowledged, ${head} are there`;
  if (passed < promised.passed)
    return `the unit of ${promised.passed} was committed, the cursor is ${passed}`;
  if (passed > head) return `the cursor ${passed} is beyond the head ${head}`;
  if (passed > 0 && mark !== `m${passed}`) return `the cursor ${passed} has the mark ${mark}`;
  const isPromised = promised.settled > 0;
  if (isPromised && journal.identity().epoch !== promised.epoch) return "another epoch began";
  // A turn that needs no room: what an earlier life has dropped is told with it.
  await journal.commit(
    { group: "none", cursors: [], state: [{ space: "none", key: "k", value: null }] },
    "soon",
  );
  const problem =
    (await problemOfUnits(journal, passed)) ??
    (await problemOfEvents(journal, passed, head, promised.policy));
  if (problem !== null) return problem;
  const next = event(powerCutPayload(head + 1), { time: powerCutTime(head + 1) });
  await append(journal, "s", next);
  const after = journal.status().streams.get("s")?.head;
  return after === head + 1 ? null : `an event after ${head} became ${after}`;
}

/** What the group has not passed is there, in order, or is told to have given way. */
async function problemOfEvents(
  journal: Journal,
  passed: number,
  head: number,
  policy: PowerCutPolicy,
): Promise<string | null> {
  const told = (await texts(journal, gapsStream)).map((text) => JSON.parse(text) as Gap);
  const mayDrop = policy === "drop-oldest" || policy === "thin";
  const own = ["s", "out"];
  const first = told.find(({ stream }) => !mayDrop && own.includes(stream));
  if (first !== undefined) return `it was told to be gone: ${JSON.stringify(first)}`;
  const isTold = (seq: number): boolean =>
    told.some(({ stream, from, to }) => stream === "s" && from <= seq && seq <= to);
  let next = (journal.status().streams.get("s")?.first ?? 1) - 1;
  for (let seq = passed + 1; seq <= next; seq++) {
    if (!isTold(seq)) return `event ${seq} was not passed, is gone and not told`;
  }
  while (next < head) {
    const { events } = await journal.read("s", next, 100, 1 << 20);
    if (events.length === 0) return `event ${next + 1} cannot be read`;
    for (const { seq, payload } of events) {
      for (next++; next < seq; next++) {
        if (!isTold(next)) return `event ${next} is gone and not told`;
      }
      if (seq !== next) return `event ${seq} follows ${next}`;
      if (!powerCutPayload(seq).equals(payload)) return `event ${seq} is another`;
    }
  }
  return null;
}

/** All that a unit did is there, or nothing of it. */
async function problemOfUnits(journal: Journal, passed: number): Promise<string | null> {
  const last = lastUnit(await journal.readState("p", "last"));
  if (last.seq !== passed) return `the state is of unit ${last.seq}, the cursor of ${passed}`;
  const out = journal.status().streams.get("out")?.head ?? 0;
  if (out !== last.units) return `${last.units} units emitted ${out} events`;
  const sevenths = Math.floor(last.units / seventh);
  const letters = await journal.readDeadLetters("s", 10_000);
  if (letters.length !== sevenths) return `${sevenths} units left ${letters.length} dead letters`;
  const retries = (await journal.readRetries("g")).map((row) => row.event.seq);
  const expected = last.retry === 0 ? [] : [last.retry];
  return retries.join() === expected.join()
    ? null
    : `after ${last.units} units the retries are ${retries.join()}`;
}

/** What the file of version 1 held is all there, before and after its migration (test/journal/formats). */
async function problemOfOld(journal: Journal, { policy }: Promised): Promise<string | null> {
  if (policy !== "upgrade") return null;
  const found = await texts(journal, "readings");
  const isWhole =
    found.length === 31 && found.every((text, index) => text === `reading ${index + 1}`);
  if (!isWhole) return `of 31 old readings there are ${found.length}`;
  const { seq, mark } = journal.cursor("cloud", "readings");
  if (seq !== 12 || mark !== "m") return `the old cursor is ${seq} with the mark ${mark}`;
  const state = Buffer.from((await journal.readState("s", "k")) ?? []).toString();
  const retry = (await journal.readRetries("cloud"))[0]?.event.seq;
  const letter = (await journal.readDeadLetters("readings", 9))[0]?.code;
  const [packet] = await journal.readPacketIds("mqtt");
  const kept = [state, retry, letter, packet?.id].join();
  return kept === "v1,5,INVALID,7" ? null : `of the old small rows there are ${kept}`;
}

/** Starts the whole agent on it: it answers, and delivers what is there. */
export async function problemOfAgent(folder: string, promised: Promised): Promise<string | null> {
  const archive = join(folder, "archive");
  const { settings, streams } = powerCutPolicies[promised.policy];
  const quota = streams.size === 0 ? "" : ", whenFull: thin, thin: 4s";
  const agent = await childAgent(
    folder,
    `streams: { s: { format: json${quota} } }\nsources:\n  board: { type: system, every: 1h, stream: system }\nsinks:\n  archive: { type: file, path: ${archive}, from: [s] }\n`,
    { journal: `  maxBytes: ${settings.maxBytes / 1024}KiB\n  onFull: ${settings.onFull}` },
  );
  try {
    await agent.start();
    const { status } = await agent.health();
    if (status === "failing") return `the agent's health is ${status}`;
    const lag = /stream_lag\{stream="s",group="archive"\} 0$/m;
    await until(
      "the archive",
      async () => lag.test(await agent.metrics()) || promised.settled === 0,
    );
    await agent.stop();
    const found = readArchive(archive, "s").map((line) => Number(line.payload["n"]));
    const newest = found.at(-1) ?? 0;
    if (newest < promised.settled)
      return `events to ${promised.settled} were acknowledged, ${newest} were delivered`;
    const mayDrop = settings.onFull === "drop-oldest";
    const isInOrder = found.every(
      (n, index) =>
        index === 0 || (mayDrop ? n > (found[index - 1] ?? 0) : n === (found[index - 1] ?? 0) + 1),
    );
    if (!isInOrder) return "the archive is not in order";
    const oldest = found[0] ?? 1;
    return mayDrop || oldest <= promised.passed + 1 ? null : `the archive begins at ${oldest}`;
  } finally {
    await agent.kill();
  }
}

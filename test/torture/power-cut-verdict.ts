/** Whether what a power cut left is opened with all that was promised before it. */
import { join } from "node:path";
import { gapsStream, type Journal } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { readArchive } from "../support/archive.ts";
import { childAgent } from "../support/child-agent.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { powerCutPayload, powerCutSettings } from "../support/power-cut-payload.ts";
import { recordingContext } from "../support/recording-context.ts";
import { append, event } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

/** What the recorded process was told before the cut. */
export interface Promised {
  /** Null: its journal was not open yet. */
  readonly epoch: string | null;
  readonly settled: number;
  readonly passed: number;
}

/** Each seventh event leaves a retry and a dead letter (power-cut-child.ts). */
const seventh = 7;

/** Opens it with the journal's own recovery; null: every promise is kept. */
export async function problemOfJournal(folder: string, promised: Promised): Promise<string | null> {
  const path = join(folder, "journal.db");
  const journal = createJournal(recordingContext("journal"), journalSetup(path, powerCutSettings));
  try {
    await journal.open([{ group: "g", streams: ["s"] }]);
    return await problemOfOpen(journal, promised);
  } finally {
    await journal.close();
  }
}

async function problemOfOpen(journal: Journal, promised: Promised): Promise<string | null> {
  const { seq: passed, mark } = journal.cursor("g", "s");
  const stream = journal.status().streams.get("s") ?? { first: 1, head: 0 };
  const { first, head } = stream;
  if (head < promised.settled)
    return `events to ${promised.settled} were acknowledged, ${head} are there`;
  if (passed < promised.passed)
    return `the unit of ${promised.passed} was committed, the cursor is ${passed}`;
  if (passed > head) return `the cursor ${passed} is beyond the head ${head}`;
  if (first > passed + 1) return `events from ${passed + 1} were dropped, the first is ${first}`;
  if (passed > 0 && mark !== `m${passed}`) return `the cursor ${passed} has the mark ${mark}`;
  const isPromised = promised.settled > 0;
  if (isPromised && journal.identity().epoch !== promised.epoch) return "another epoch began";
  if (journal.status().streams.has(gapsStream)) return "something was told to be gone";
  const problem =
    (await problemOfEvents(journal, first, head)) ?? (await problemOfUnits(journal, passed));
  if (problem !== null) return problem;
  await append(journal, "s", event(powerCutPayload(head + 1)));
  const after = journal.status().streams.get("s")?.head;
  return after === head + 1 ? null : `an event after ${head} became ${after}`;
}

async function problemOfEvents(
  journal: Journal,
  first: number,
  head: number,
): Promise<string | null> {
  let next = first;
  while (next <= head) {
    const { events } = await journal.read("s", next - 1, 100, 1 << 20);
    if (events.length === 0) return `event ${next} cannot be read`;
    for (const { seq, payload } of events) {
      if (seq !== next) return `event ${seq} follows ${next - 1}`;
      if (!powerCutPayload(seq).equals(payload)) return `event ${seq} is another`;
      next++;
    }
  }
  return null;
}

/** All that a unit did is there, or nothing of it. */
async function problemOfUnits(journal: Journal, passed: number): Promise<string | null> {
  const out = journal.status().streams.get("out")?.head ?? 0;
  if (out !== passed) return `${passed} units emitted ${out} events`;
  const state = await journal.readState("p", "last");
  const last = state === null ? 0 : Number(Buffer.from(state).toString());
  if (last !== passed) return `the state is of unit ${last}, the cursor of ${passed}`;
  const sevenths = Math.floor(passed / seventh);
  const letters = await journal.readDeadLetters("s", 10_000);
  if (letters.length !== sevenths) return `${sevenths} units left ${letters.length} dead letters`;
  const retries = (await journal.readRetries("g")).map((row) => row.event.seq);
  const expected = sevenths === 0 ? [] : [sevenths * seventh];
  return retries.join() === expected.join()
    ? null
    : `after ${passed} units the retries are ${retries.join()}`;
}

/** Starts the whole agent on it: it answers, and delivers what is there. */
export async function problemOfAgent(folder: string, promised: Promised): Promise<string | null> {
  const archive = join(folder, "archive");
  const agent = await childAgent(
    folder,
    `streams: { s: { format: json } }\nsources:\n  board: { type: system, every: 1h, stream: system }\nsinks:\n  archive: { type: file, path: ${archive}, from: [s] }\n`,
    { journal: "  maxBytes: 1MiB\n  onFull: reject" },
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
    const oldest = found[0] ?? 1;
    const isDense = found.every((n, index) => n === oldest + index);
    if (!isDense) return "the archive is not in order";
    return oldest <= promised.passed + 1 ? null : `the archive begins at ${oldest}`;
  } finally {
    await agent.kill();
  }
}

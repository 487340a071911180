/**
 * What the power-cut proof records: one process of journal work, `power-cut-child.ts PATH EVENTS END POLICY [FAULT]`.
 *
 * Each event of stream `s` is numbered by its seq; a unit of work passes it, emits it into `out`, keeps it as state and
 * each seventh time makes or removes a retry and leaves a dead letter. What is acknowledged is said at once on standard
 * output, where the recorder sees it between the calls: `settled SEQ`, `passed SEQ`. The file is bounded to 1 MiB and
 * payloads are noise, so that chunks are trimmed all the time and the WAL is checkpointed often.
 * END: `close` in order, or `die` by SIGKILL. POLICY: power-cut-payload.ts.
 */
import { writeSync } from "node:fs";
import { createJournal, type JournalSetup } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import {
  lastUnit,
  powerCutGroups,
  powerCutPayload,
  powerCutPolicies,
  powerCutTime,
  type PowerCutPolicy,
} from "./power-cut-payload.ts";
import { recordingContext } from "./recording-context.ts";
import { event } from "./test-journal.ts";

const [path = "", count = "0", end = "close", policy = "reject", fault] = process.argv.slice(2);
const say = (line: string): number => writeSync(1, `${line}\n`);
const { settings, streams } = powerCutPolicies[policy as PowerCutPolicy];
const journal = createJournal(
  recordingContext("journal"),
  journalSetup(
    path,
    { ...settings, linger: 0 },
    {
      streams,
      ...(fault !== undefined && { fault: fault as NonNullable<JournalSetup["fault"]> }),
    },
  ),
);
await journal.open(powerCutGroups);
say(`open ${journal.identity().epoch}`);
let last = lastUnit(await journal.readState("p", "last"));

/** The oldest event that was not passed and is there. */
async function passNext(): Promise<void> {
  const from = journal.cursor("g", "s").seq;
  const { events } = await journal.read("s", from, 1, 1);
  const { seq, time } = events[0] ?? { seq: 0, time: 0 };
  if (seq === 0) return;
  const units = last.units + 1;
  const isSeventh = units % 7 === 0;
  const next = { seq, units, retry: isSeventh ? seq : last.retry };
  const outcome = await journal.commit(
    {
      group: "g",
      cursors: [{ stream: "s", from, to: seq, mark: `m${seq}` }],
      emits: [{ stream: "out", event: event(JSON.stringify({ n: seq })) }],
      state: [{ space: "p", key: "last", value: Buffer.from(JSON.stringify(next)) }],
      ...(isSeventh && {
        retries: {
          put: events.map((one) => ({
            event: one,
            attempts: units,
            dueAt: time,
            firstFailedAt: time,
            error: "e",
          })),
          remove: last.retry > 0 ? [{ stream: "s", seq: last.retry }] : [],
        },
        deadLetters: [
          {
            stream: "s",
            seq,
            origin: "processor" as const,
            originName: "g",
            code: "HANDLER_FAILED",
            reason: "r",
            attempts: 1,
            // Not the events' times: a letter older than `maxAge` expires.
            firstFailedAt: Date.now(),
            lastFailedAt: Date.now(),
            key: null,
            time,
            headers: {},
            payload: Buffer.from(String(seq)),
          },
        ],
      }),
    },
    "soon",
  );
  if (outcome !== "committed") return;
  last = next;
  say(`passed ${seq}`);
}

const isBehind = policy === "drop-oldest" || policy === "thin";
const first = (journal.status().streams.get("s")?.head ?? 0) + 1;
// What an earlier life left behind is passed first.
if (!isBehind) while (journal.cursor("g", "s").seq < first - 1) await passNext();
/** Something large comes and goes, and what it took is given back while the next events come in. */
async function compact(): Promise<void> {
  for (const value of [Buffer.alloc(256 * 1024, "x"), null]) {
    const state = [{ space: "p", key: "large", value }];
    await journal.commit({ group: "g", cursors: [], state }, "soon");
  }
  compacting = journal.compact().then(({ beforeBytes, afterBytes }) => {
    if (afterBytes < beforeBytes) say(`compacted ${beforeBytes} ${afterBytes}`);
  });
}

let compacting: Promise<unknown> = Promise.resolve();
for (let n = first; n < first + Number(count); n++) {
  await new Promise<void>((resolve) => {
    journal.append("s", event(powerCutPayload(n), { time: powerCutTime(n) }), () => {
      say(`settled ${n}`);
      resolve();
    });
    journal.commitSoon();
  });
  // Three at a time wait to be passed; a group that is behind passes one of three.
  if (n % 3 === 0) for (let one = isBehind ? 3 : 1; one <= 3; one++) await passNext();
  if (policy !== "compact" || n % 15 !== 1) continue;
  await compacting;
  await compact();
}
await compacting;
if (end === "die") process.kill(process.pid, "SIGKILL");
await journal.close();
say("closed");

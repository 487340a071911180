/**
 * What the power-cut proof records: one process of journal work, `power-cut-child.ts PATH EVENTS END [FAULT]`.
 *
 * Each event of stream `s` is numbered by its seq; a unit of work passes it, emits it into `out`, keeps it as state and
 * each seventh time makes or removes a retry and leaves a dead letter. What is acknowledged is said at once on standard
 * output, where the recorder sees it between the calls: `settled SEQ`, `passed SEQ`. The file is bounded to 1 MiB and
 * payloads are noise, so that chunks are trimmed all the time and the WAL is checkpointed often.
 * END: `close` in order, or `die` by SIGKILL.
 */
import { writeSync } from "node:fs";
import { createJournal, type JournalSetup } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { powerCutPayload, powerCutSettings } from "./power-cut-payload.ts";
import { recordingContext } from "./recording-context.ts";
import { event } from "./test-journal.ts";

const [path = "", count = "0", end = "close", fault] = process.argv.slice(2);
const say = (line: string): number => writeSync(1, `${line}\n`);
const journal = createJournal(
  recordingContext("journal"),
  journalSetup(
    path,
    powerCutSettings,
    fault === undefined ? {} : { fault: fault as NonNullable<JournalSetup["fault"]> },
  ),
);
await journal.open([{ group: "g", streams: ["s"] }]);
say(`open ${journal.identity().epoch}`);

async function pass(n: number): Promise<void> {
  const from = journal.cursor("g", "s").seq;
  const time = 1_780_000_000_000;
  const { events } = await journal.read("s", n - 1, 1, 1);
  const isSeventh = n % 7 === 0;
  const outcome = await journal.commit(
    {
      group: "g",
      cursors: [{ stream: "s", from, to: n, mark: `m${n}` }],
      emits: [{ stream: "out", event: event(JSON.stringify({ n })) }],
      state: [{ space: "p", key: "last", value: Buffer.from(String(n)) }],
      ...(isSeventh && {
        retries: {
          put: events.map((one) => ({
            event: one,
            attempts: n,
            dueAt: time,
            firstFailedAt: time,
            error: "e",
          })),
          remove: n > 7 ? [{ stream: "s", seq: n - 7 }] : [],
        },
        deadLetters: [
          {
            stream: "s",
            seq: n,
            origin: "processor" as const,
            originName: "g",
            code: "HANDLER_FAILED",
            reason: "r",
            attempts: 1,
            firstFailedAt: time,
            lastFailedAt: time,
            key: null,
            time,
            headers: {},
            payload: Buffer.from(String(n)),
          },
        ],
      }),
    },
    "soon",
  );
  if (outcome === "committed") say(`passed ${n}`);
}

const first = (journal.status().streams.get("s")?.head ?? 0) + 1;
// What an earlier life left behind is passed first.
for (let n = journal.cursor("g", "s").seq + 1; n < first; n++) await pass(n);
for (let n = first; n < first + Number(count); n++) {
  await new Promise<void>((resolve) => {
    journal.append("s", event(powerCutPayload(n)), () => {
      say(`settled ${n}`);
      resolve();
    });
    journal.commitSoon();
  });
  // Sometimes three at a time wait to be passed.
  if (n % 3 === 0) for (let one = n - 2; one <= n; one++) if (one >= first) await pass(one);
}
if (end === "die") process.kill(process.pid, "SIGKILL");
await journal.close();
say("closed");

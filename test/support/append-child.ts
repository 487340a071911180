/**
 * A process that appends to a journal and says what was settled: `append-child.ts PATH COUNT [MODE]`.
 * - `crash`: under that durability
 * - `settle-before-commit`, `synchronous-off`: the journal's planted faults
 * - `die`: ends itself by SIGKILL at the first settled; with `+settle-before-commit` under that fault
 * - `units`: after each event a unit of work that passes it, emits it into `out` and keeps it as state
 */
import { writeSync } from "node:fs";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { event } from "./test-journal.ts";
import { recordingContext } from "./recording-context.ts";

const [path = "", count = "0", mode = ""] = process.argv.slice(2);
const fault = (["settle-before-commit", "synchronous-off"] as const).find((each) =>
  mode.endsWith(each),
);
/** At once, so that what was said is not lost with the process. */
const say = (line: string): number => writeSync(1, `${line}\n`);
const journal = createJournal(
  recordingContext("journal"),
  journalSetup(
    path,
    // Nothing may be dropped, whatever the disk says.
    { durability: mode === "crash" ? "crash" : "power-loss", linger: 2, onFull: "reject" },
    fault !== undefined ? { fault } : {},
  ),
);
await journal.open([{ group: "g", streams: ["s"] }]);
say("open");

async function pass(n: number): Promise<void> {
  const from = journal.cursor("g", "s").seq;
  const outcome = await journal.commit(
    {
      group: "g",
      cursors: [{ stream: "s", from, to: n }],
      emits: [{ stream: "out", event: event(String(n)) }],
      state: [{ space: "p", key: "last", value: Buffer.from(String(n)) }],
    },
    "soon",
  );
  say(`${outcome} ${n}`);
}

const first = (journal.status().streams.get("s")?.head ?? 0) + 1;
for (let n = first; n < first + Number(count); n++) {
  const settled = new Promise<void>((resolve) => journal.append("s", event(String(n)), resolve));
  const told = settled.then(() => {
    say(`settled ${n}`);
    if (mode.startsWith("die")) process.kill(process.pid, "SIGKILL");
  });
  // Some in one commit, some alone.
  if (n % 5 === 0 || mode === "units") await told;
  if (mode === "units") await pass(n);
}
await new Promise<void>((resolve) => journal.append("s", event("end"), resolve));
await journal.close();
say("closed");

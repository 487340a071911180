/**
 * A process that appends to a journal and says what was settled: `append-child.ts PATH COUNT [early]`.
 * `early` is a planted fault: it says so before the commit.
 */
import { createJournal } from "../../src/journal/thread.ts";
import { event } from "./test-journal.ts";
import { recordingContext } from "./recording-context.ts";

const [path = "", count = "0", fault] = process.argv.slice(2);
const journal = createJournal(recordingContext("journal"), {
  settings: {
    path,
    durability: fault === "crash" ? "crash" : "power-loss",
    linger: 2,
    maxBytes: 64 * 1024 * 1024,
    maxAge: 30 * 86_400_000,
    onFull: "drop-oldest",
  },
  path,
  device: "board-1",
  board: null,
  streams: new Map(),
  onFatal: (error) => {
    throw error;
  },
});
await journal.open([{ group: "g", streams: ["s"] }]);
process.stdout.write("open\n");
const first = (journal.status().streams.get("s")?.head ?? 0) + 1;
for (let n = first; n < first + Number(count); n++) {
  const settled = new Promise<void>((resolve) => journal.append("s", event(String(n)), resolve));
  // Some in one commit, some alone.
  if (n % 5 === 0 && fault !== "early") await settled;
  const say = (): boolean => process.stdout.write(`settled ${n}\n`);
  if (fault === "early") {
    say();
    if (n % 20 === 0) await settled;
  } else void settled.then(say);
}
await new Promise<void>((resolve) => journal.append("s", event("end"), resolve));
await journal.close();
process.stdout.write("closed\n");

/**
 * A process that opens a journal, appends, reads, rests, and says what that took: `backlog-child.ts PATH APPEND READ`.
 * READ events are read, from the beginning again when the end is reached, so that a short stream and a long one can
 * be read equally much.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { append, event } from "./test-journal.ts";
import { recordingContext } from "./recording-context.ts";

const [path = "", appends = "0", reads = "0"] = process.argv.slice(2);
const journal = createJournal(
  recordingContext("journal"),
  journalSetup(path, { durability: "crash", linger: 50, maxBytes: 8 * 2 ** 30, onFull: "reject" }),
);
const began = performance.now();
await journal.open([{ group: "g", streams: ["s"] }]);
const openMs = performance.now() - began;

const reading = (n: number): string =>
  `{"device":"e${n % 8}","ts":${1_780_000_000_000 + n},"temperature":${(21 + Math.sin(n)).toFixed(3)},"n":${n}}`;

async function fill(stream: string, events: number): Promise<void> {
  for (let n = 1; n < events; n++) {
    while (!journal.hasRoom()) await delay(1);
    journal.append(stream, event(reading(n)), () => undefined);
    if (n % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  if (events > 0) await append(journal, stream, event(reading(events)));
}

async function readAll(events: number): Promise<number> {
  let [after, read] = [0, 0];
  while (read < events) {
    const page = await journal.read("s", after, 500, 1 << 20);
    read += page.events.length;
    after = page.events.at(-1)?.seq ?? 0;
  }
  return read;
}

await fill("s", Number(appends));
const read = await readAll(Number(reads));
await delay(500);
const rssKiB = Number(/VmRSS:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
const head = journal.status().streams.get("s")?.head ?? 0;
await journal.close();
process.stdout.write(JSON.stringify({ openMs, rssKiB, read, head }));

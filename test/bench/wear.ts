/**
 * What the card pays: bytes to disk for each byte of payload, at the rates of a few sensors and at saturation. A commit
 * a second (the default linger) has as many events as come in a second, so the commits are made one after the other
 * instead of waited for. In each the cursor of a sink rides along; the checkpoints are in it, and closing the file.
 *
 * The disk must be a disk: in a tmpfs nothing is written.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { bytesWritten } from "../../src/host/wear.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { recordingContext } from "../support/recording-context.ts";
import { reading } from "../support/telemetry.ts";

/** Events of one commit, how many commits, and what they stand for. */
const loads = [
  [1, 1_500, "1 a second"],
  [10, 1_500, "10 a second"],
  [50, 1_000, "50 a second"],
  [100, 1_000, "100 a second"],
  [1_024, 400, "saturation: the largest turn"],
] as const;

function create(path: string): Journal {
  return createJournal(
    recordingContext("journal"),
    journalSetup(path, { linger: 1000, maxBytes: 1 << 30, onFull: "reject" }),
  );
}

async function written(): Promise<number> {
  const bytes = await bytesWritten();
  if (bytes === undefined) throw new Error("The kernel does not tell what was written");
  return bytes;
}

/** Bytes to disk for each of payload, and for each commit. */
async function wear(folder: string, each: number, commits: number): Promise<[number, number]> {
  const journal = create(join(folder, `${each}.db`));
  await journal.open([{ group: "sink", streams: ["s"] }]);
  const before = await written();
  let [n, payload] = [0, 0];
  for (let commit = 0; commit < commits; commit++) {
    await new Promise<void>((resolve) => {
      for (let index = 0; index < each; index++, n++) {
        const event = reading(n);
        payload += event.payload.length;
        journal.append("s", event, index === each - 1 ? resolve : () => undefined);
      }
      const from = journal.cursor("sink", "s").seq;
      const to = journal.status().streams.get("s")?.head ?? 0;
      // A refused one would be a move behind another: none is, since each commit is waited for.
      journal
        .commit({ group: "sink", cursors: [{ stream: "s", from, to }] }, "idle")
        .catch(resolve);
      journal.commitSoon();
    });
  }
  await journal.close();
  const bytes = (await written()) - before;
  return [bytes / payload, bytes / commits];
}

export async function run(): Promise<void> {
  const folder = mkdtempSync(join("/var/tmp", "holdfast-bench-"));
  const say = (line: string): boolean => process.stdout.write(`${line}\n`);
  try {
    say("| events for each commit | as at | bytes to disk for each of payload | for each commit |");
    say("| ---: | --- | ---: | ---: |");
    for (const [each, commits, name] of loads) {
      const [ratio, bytes] = await wear(folder, each, commits);
      say(
        `| ${each} | ${name} | ${ratio.toFixed(2)} | ${Math.round(bytes).toLocaleString("en")} |`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Ten million events of backlog: what opening and reading them costs, beside a journal with none. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
/** As `npm start` bounds the agent. */
const flags = ["--max-semi-space-size=4", "--max-old-space-size=128"];
/** Read of each after opening it, so that both have compiled and filled the same. */
const readEvents = 20_000;
const memoryShareMax = 1.15;
const openMsMax = 1_000;

interface Opened {
  readonly openMs: number;
  readonly rssKiB: number;
}

export interface BacklogReport {
  readonly events: number;
  readonly fileBytes: number;
  readonly none: Opened;
  readonly all: Opened;
  readonly isKept: boolean;
}

export async function backlogRun(events: number): Promise<BacklogReport> {
  const folder = mkdtempSync(join("/var/tmp", "holdfast-backlog-"));
  const child = async (name: string, append: number, read: number): Promise<Opened> => {
    const program = ["test/support/backlog-child.ts", join(folder, name)];
    const { stdout } = await run(process.execPath, [
      ...flags,
      ...program,
      String(append),
      String(read),
    ]);
    return JSON.parse(stdout) as Opened;
  };
  try {
    await child("none.db", readEvents, 0);
    await child("all.db", events, 0);
    const none = await child("none.db", 0, readEvents);
    const all = await child("all.db", 0, readEvents);
    const isKept = all.rssKiB <= none.rssKiB * memoryShareMax && all.openMs < openMsMax;
    const { size: fileBytes } = statSync(join(folder, "all.db"));
    return { events, fileBytes, none, all, isKept };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

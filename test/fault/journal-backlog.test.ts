/** A million events of backlog. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { tempDir } from "../support/temp-dir.ts";

/** As `npm start` bounds V8 (package.json). */
const bounds = ["--max-semi-space-size=4", "--max-old-space-size=128"];

async function backlog(t: TestContext, path: string, append: number, read: number) {
  const args = [...bounds, "test/support/backlog-child.ts", path, String(append), String(read)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  assert.equal(code, 0, output);
  return JSON.parse(output) as { openMs: number; rssKiB: number; read: number; head: number };
}

/** Of caches that a large file fills and a small one does not; a million events in memory would be several times that. */
const slackKiB = 40 * 1024;

/** What garbage happens to lie about differs by a fifth from run to run; what a backlog costs is in each of them. */
async function leastOf<T extends { rssKiB: number }>(measure: () => Promise<T>): Promise<T> {
  const runs = [await measure(), await measure(), await measure()];
  return runs.reduce((least, run) => (run.rssKiB < least.rssKiB ? run : least));
}

// Reading costs memory of its own, whatever the backlog: both read equally much, past what is kept of recent chunks.
for (const [what, reads] of [
  ["rests", 0],
  ["is read through", 1_000_000],
] as const) {
  test(`a million events of backlog that ${what} take no more memory than ten thousand`, async (t) => {
    const folder = tempDir(t);
    const [few, many] = [join(folder, "few.db"), join(folder, "many.db")];
    await backlog(t, few, 10_000, 0);
    await backlog(t, many, 1_000_000, 0);
    const small = await leastOf(() => backlog(t, few, 0, reads));
    const large = await leastOf(() => backlog(t, many, 0, reads));
    t.diagnostic(`open ${small.openMs.toFixed(0)} and ${large.openMs.toFixed(0)} ms`);
    t.diagnostic(`RSS ${small.rssKiB} and ${large.rssKiB} KiB`);
    assert.deepEqual([small.head, large.head], [10_000, 1_000_000]);
    assert.ok(large.read >= reads);
    assert.ok(large.openMs < 1000, `${large.openMs} ms`);
    assert.ok(large.rssKiB <= small.rssKiB + slackKiB, `${large.rssKiB} KiB, few: ${small.rssKiB}`);
  });
}

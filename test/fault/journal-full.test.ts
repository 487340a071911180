/** A disk that is full because of others (ENOSPC), and a million events of backlog. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

/** A file system of its own; needs root. Unmounted before its folder is removed, whatever still uses it. */
function smallDisk(t: TestContext, bytes: number): string {
  let folder: string | undefined;
  t.after(() => folder !== undefined && execFileSync("umount", ["-l", folder]));
  const path = join(tempDir(t), "disk");
  mkdirSync(path);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", path]);
  folder = path;
  return folder;
}

/** Takes what is free. */
function fill(path: string): void {
  const file = openSync(path, "w");
  try {
    for (const block of [65_536, 4096]) {
      try {
        for (;;) if (writeSync(file, Buffer.alloc(block)) < block) break;
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
    }
  } finally {
    closeSync(file);
  }
}

const noise = (): Uint8Array => crypto.getRandomValues(new Uint8Array(20_000));

test("a disk without room withholds what it is given, tells so, and takes each once when there is room again", async (t) => {
  const folder = smallDisk(t, 16 << 20);
  const groups = [{ group: "g", streams: ["s"] }];
  const { journal, context } = await openJournal(t, { folder, groups, linger: 0 });
  for (let n = 0; n < 60; n++) await append(journal, "s", event(noise()));
  const ballast = join(folder, "ballast");
  fill(ballast);
  let settled = 0;
  journal.append("s", event(noise()), () => settled++);
  await until("the full disk to be told", () => context.now().status === "degraded");
  assert.match(context.now().detail ?? "", /disk is full/);
  assert.deepEqual([journal.status().full, journal.hasRoom()], [true, false]);
  let outcome = "waits";
  const cursors = [{ stream: "s", from: 0, to: 60 }];
  const moved = journal.commit({ group: "g", cursors }, "soon").then((told) => (outcome = told));
  await delay(1500);
  // Not yet as it should be: a cursor too needs room in the WAL, and nothing is held back for it.
  assert.deepEqual([settled, outcome], [0, "waits"]);
  rmSync(ballast);
  assert.equal(await moved, "committed");
  await append(journal, "s", event("last"));
  assert.deepEqual([settled, context.now().status], [1, "ok"]);
  await journal.close();
  const after = await openJournal(t, { folder, groups });
  assert.equal((await texts(after.journal, "s")).length, 62, "each once");
  assert.equal(after.journal.cursor("g", "s").seq, 60);
  await after.journal.close();
});

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
    const small = await backlog(t, few, 0, reads);
    const large = await backlog(t, many, 0, reads);
    t.diagnostic(`open ${small.openMs.toFixed(0)} and ${large.openMs.toFixed(0)} ms`);
    t.diagnostic(`RSS ${small.rssKiB} and ${large.rssKiB} KiB`);
    assert.deepEqual([small.head, large.head], [10_000, 1_000_000]);
    assert.ok(large.read >= reads);
    assert.ok(large.openMs < 1000, `${large.openMs} ms`);
    assert.ok(large.rssKiB <= small.rssKiB * 1.15, `${large.rssKiB} KiB, with few ${small.rssKiB}`);
  });
}

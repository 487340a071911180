/** A disk that refuses to sync, by strace's fault injection; and when it is asked to. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { requireProgram } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";
import { openJournal, texts } from "../support/test-journal.ts";

const run = promisify(execFile);

/** Appends `count` events under strace; gives back its calls of fsync and write, in order. */
async function traced(
  folder: string,
  count: number,
  options: readonly string[],
  ...more: string[]
) {
  requireProgram("strace", "strace");
  const trace = join(folder, "trace");
  const strace = ["-f", "-e", "trace=fsync,fdatasync,write", ...options, "-o", trace];
  const child = ["test/support/append-child.ts", join(folder, "journal.db"), String(count)];
  await run("strace", [...strace, process.execPath, ...child, ...more]);
  return readFileSync(trace, "utf8")
    .split("\n")
    .filter((line) => /fsync|fdatasync|settled|"open/.test(line));
}

/** How many "settled" have no sync between them and the "settled" of another commit, or the opening. */
function unsynced(calls: readonly string[]): number {
  const opened = calls.findIndex((line) => line.includes('"open'));
  assert.ok(opened > 0, "The child did not open its journal");
  let hasSync = false;
  let found = 0;
  for (const line of calls.slice(opened + 1)) {
    if (line.includes("sync(")) hasSync = true;
    else if (!hasSync) found++;
  }
  return found;
}

test("an event is settled after its fsync under power-loss, and the check sees that crash does without", async (t) => {
  const synced = await traced(tempDir(t), 1, []);
  assert.equal(synced.filter((line) => line.includes("settled")).length, 1);
  assert.equal(unsynced(synced), 0);
  assert.equal(unsynced(await traced(tempDir(t), 1, [], "crash")), 1);
});

// The tenth sync and those after it are of commits, the failed one's repair, and of the reopening.
for (const when of ["11", "11..12", "11..14", "12..20"]) {
  test(`an event whose commit failed at fsync ${when} is there once, and settled when it is on disk`, async (t) => {
    const folder = join(tempDir(t), "failing");
    mkdirSync(folder);
    const inject = ["-e", `inject=fsync,fdatasync:error=EIO:when=${when}`];
    const calls = await traced(folder, 20, inject);
    assert.ok(
      calls.some((line) => line.includes("INJECTED")),
      "No fault was injected",
    );
    assert.equal(calls.filter((line) => line.includes("settled")).length, 20);
    const { journal } = await openJournal(t, { folder });
    const expected = Array.from({ length: 20 }, (_, index) => String(index + 1));
    assert.deepEqual(await texts(journal, "s"), [...expected, "end"]);
  });
}

/** kill -9 at random moments: what was said to be on disk is there, once, in order. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { openJournal, texts } from "../support/test-journal.ts";

/** Appends until it is killed, `afterMs` from its opening; gives back what it said was settled. */
async function killed(t: TestContext, path: string, afterMs: number, ...fault: string[]) {
  const child = spawn(
    process.execPath,
    ["test/support/append-child.ts", path, "1000000", ...fault],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  const gone = once(child, "close");
  await once(child.stdout, "data");
  await delay(afterMs);
  child.kill("SIGKILL");
  await gone;
  // The last line may be cut.
  const lines = output.split("\n").slice(0, -1);
  return lines.filter((line) => line.startsWith("settled ")).map((line) => Number(line.slice(8)));
}

/** The settled that are not there; asserts that what is there is dense and in order. */
async function missing(t: TestContext, folder: string, settled: readonly number[]) {
  const { journal } = await openJournal(t, { folder });
  const found = await texts(journal, "s");
  await journal.close();
  assert.deepEqual(
    found.map(Number),
    found.map((_, index) => index + 1),
    "each once and in order",
  );
  return settled.filter((n) => n > found.length);
}

test("append() survives a kill at any moment: nothing that was settled is missing", async (t) => {
  const folder = tempDir(t);
  const settled: number[] = [];
  for (let kill = 0; kill < 10; kill++) {
    settled.push(...(await killed(t, join(folder, "journal.db"), Math.random() * 150)));
    assert.deepEqual(await missing(t, folder, settled), [], `after kill ${kill + 1}`);
  }
  assert.ok(settled.length > 20, `only ${settled.length} were settled`);
});

test("this proof goes red when events are settled before their commit", async (t) => {
  for (let kill = 0; kill < 5; kill++) {
    const folder = tempDir(t);
    const settled = await killed(t, join(folder, "journal.db"), 20 + Math.random() * 50, "early");
    if ((await missing(t, folder, settled)).length > 0) return;
  }
  assert.fail("Five kills found nothing missing");
});

/** kill -9 at random moments: what was said to be on disk is there, once, in order. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { openJournal, texts } from "../support/test-journal.ts";

/** Mulberry32: the same moments again with HOLDFAST_SEED. */
function moments(t: TestContext): () => number {
  const seed = Number(process.env["HOLDFAST_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
  t.diagnostic(`seed: HOLDFAST_SEED=${seed}`);
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Runs until it is killed, `afterMs` from its opening; gives back the numbers that it told as `what`. */
async function killed(t: TestContext, path: string, afterMs: number, mode: string, what: string) {
  const child = spawn(process.execPath, ["test/support/append-child.ts", path, "1000000", mode], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  const gone = once(child, "close");
  await once(child.stdout, "data");
  await Promise.race([delay(afterMs, undefined, { ref: false }), gone]);
  child.kill("SIGKILL");
  await gone;
  assert.equal(child.signalCode, "SIGKILL");
  // The last line may be cut.
  const lines = output.split("\n").slice(0, -1);
  const mark = `${what} `;
  return lines
    .filter((line) => line.startsWith(mark))
    .map((line) => Number(line.slice(mark.length)));
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
  const random = moments(t);
  const settled: number[] = [];
  for (let kill = 0; kill < 10; kill++) {
    const afterMs = random() * 150;
    settled.push(...(await killed(t, join(folder, "journal.db"), afterMs, "", "settled")));
    assert.deepEqual(await missing(t, folder, settled), [], `after kill ${kill + 1}`);
  }
  assert.ok(settled.length > 20, `only ${settled.length} were settled`);
});

/** The child kills itself as soon as an event is settled, so no luck is needed. */
async function missingAfter(t: TestContext, mode: string): Promise<readonly number[]> {
  const folder = tempDir(t);
  const settled = await killed(t, join(folder, "journal.db"), 10_000, mode, "settled");
  assert.ok(settled.length > 0, "nothing was settled");
  return missing(t, folder, settled);
}

test("this proof goes red when events are settled before their commit", async (t) => {
  assert.deepEqual(await missingAfter(t, "die"), []);
  assert.deepEqual(await missingAfter(t, "die+settle-before-commit"), [1]);
});

test("commit() survives a kill at any moment: cursor, emitted event and state move together", async (t) => {
  const folder = tempDir(t);
  const random = moments(t);
  const told = new Set<number>();
  for (let kill = 0; kill < 10; kill++) {
    const path = join(folder, "journal.db");
    const committed = await killed(t, path, random() * 150, "units", "committed");
    for (const n of committed) told.add(n);
    const last = Math.max(0, ...told);
    const { journal } = await openJournal(t, { folder, groups: [{ group: "g", streams: ["s"] }] });
    const { seq } = journal.cursor("g", "s");
    assert.ok(seq >= last, `kill ${kill + 1}: ${last} was committed, the cursor says ${seq}`);
    const state = Buffer.from((await journal.readState("p", "last")) ?? []).toString();
    assert.equal(state, seq === 0 ? "" : String(seq), `kill ${kill + 1}: state`);
    const out = (await texts(journal, "out")).map(Number);
    assert.deepEqual(
      [...told].filter((n) => !out.includes(n)),
      [],
      `kill ${kill + 1}: committed and not emitted`,
    );
    // What was appended and not yet passed when a kill came is passed by the next unit, without an event of its own.
    assert.equal(out.at(-1) ?? 0, seq, `kill ${kill + 1}: last emitted`);
    const once = [...new Set(out)].sort((a, b) => a - b);
    assert.deepEqual(out, once, `kill ${kill + 1}: once and in order`);
    await journal.close();
  }
  assert.ok(told.size > 20, `only ${told.size} were committed`);
});

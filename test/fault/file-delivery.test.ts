/** Journal, delivery and file sink, killed again and again: each event is in the archive once and in order. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { namesOf, range, seqsOf } from "../support/archive-names.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** 8 kills meet, on average, some ten commits, five rotations and a compression each. */
const kills = 8;

test("the file sink holds each event once and in order after kill -9 at random moments", async (t) => {
  const folder = tempDir(t);
  let safe = 0;
  for (let round = 0; round < kills; round++) {
    const child = start(t, folder, "load");
    await until("some hundreds to be safe", () => child.last("safe") > safe + 600);
    await delay(Math.random() * 300);
    child.process.kill("SIGKILL");
    await once(child.process, "close");
    safe = Math.max(safe, child.last("safe"));
  }
  const drain = start(t, folder, "drain");
  const [code] = (await once(drain.process, "close")) as [number | null];
  assert.equal(code, 0, drain.errors());
  const head = drain.last("head");
  assert.ok(head >= safe, `${safe} were safe, the journal has ${head}`);
  const seqs = seqsOf(join(folder, "archive"), "readings");
  assert.equal(seqs.length, head);
  assert.deepEqual(seqs, range(1, head));
  const names = namesOf(join(folder, "archive"), "readings");
  assert.ok(
    names.some((name) => name.endsWith(".gz")),
    `${head} events in ${names.join(", ")}`,
  );
});

function start(t: TestContext, folder: string, mode: "load" | "drain") {
  const child = spawn(process.execPath, ["test/support/delivering-child.ts", folder, mode], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  let errors = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  return {
    process: child,
    errors: () => errors,
    /** The number on the last whole line of this word. */
    last: (word: string): number =>
      Number([...output.matchAll(new RegExp(`^${word} (\\d+)\\n`, "gm"))].at(-1)?.[1] ?? 0),
  };
}

/**
 * Journal, delivery and HTTP sink, killed again and again before a server that loses answers: it honours idempotency
 * keys, so it has each event once and in order.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { range } from "../support/archive-names.ts";
import { httpFarSide, linesOf, type Fate } from "../support/http-far-side.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** Each while a request is taken and not answered: the next process must send that one again as it was. */
const kills = 5;

test("a server that honours idempotency keys has each event once after kill -9 and lost answers", async (t) => {
  const folder = tempDir(t);
  const far = await httpFarSide(t);
  far.honoursKeys = true;
  const fates: readonly Fate[] = ["take-and-hang", "take-and-cut", "cut", { status: 503 }];
  let faults = 0;
  let kill: (() => void) | null = null;
  far.fate = (_request, number) => {
    if (kill !== null) {
      kill();
      kill = null;
      return "take-and-hang";
    }
    return number % 4 === 0 ? (fates[faults++ % fates.length] ?? "take") : "take";
  };
  for (let round = 0; round < kills; round++) {
    const child = start(t, folder, "load", far.url);
    const before = far.requests.length;
    await until("some requests", () => far.requests.length > before + 1 + round);
    const gone = once(child.process, "close");
    kill = () => void child.process.kill("SIGKILL");
    await gone;
  }
  const drain = start(t, folder, "drain", far.url);
  const [code] = (await once(drain.process, "close")) as [number | null];
  assert.equal(code, 0, drain.errors());
  const seqs = linesOf(far.taken).map(({ seq }) => seq);
  assert.deepEqual(seqs, range(1, drain.head()));
  const repeated = far.requests.length - new Set(far.requests.map(({ key }) => key)).size;
  assert.ok(repeated > 0, "no request was repeated: nothing was proved");
});

function start(t: TestContext, folder: string, mode: "load" | "drain", url: string) {
  const child = spawn(process.execPath, ["test/support/delivering-child.ts", folder, mode, url], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  let errors = "";
  child.stdout.on("data", (data: Buffer) => (output = (output + data.toString()).slice(-10_000)));
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  return {
    process: child,
    errors: () => errors,
    head: (): number => Number(/^head (\d+)\n/m.exec(output)?.[1]),
  };
}

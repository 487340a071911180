/** device/receiver: what it keeps of what the http sink posts, through kills of both, and what it says is missing. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { range } from "../support/archive-names.ts";
import { endProcess } from "../support/end-process.ts";
import { fedAgent } from "../support/fed-agent.ts";
import { freePort } from "../support/mosquitto.ts";
import { startLossyProxy } from "../support/lossy-proxy.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Told {
  readonly held: readonly (readonly [number, number])[];
  readonly repeated: number;
  readonly missing: readonly (readonly [number, number])[];
}

async function receiver(t: TestContext, folder: string) {
  const [port, file] = [await freePort(), join(folder, "events.ndjson")];
  const url = `http://127.0.0.1:${port}/`;
  let child: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    if (child !== undefined) await endProcess(child, "SIGKILL");
  };
  t.after(kill);
  const start = async (): Promise<void> => {
    const args = ["device/receiver/receiver.mjs", String(port), file];
    child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout as NonNullable<ChildProcess["stdout"]>, "data");
  };
  await start();
  return {
    url,
    port,
    file,
    kill,
    start,
    told: async () => (await (await fetch(url)).json()) as Readonly<Record<string, Told>>,
    /** What a kill has torn ends without a brace; it was never answered for, and came again. */
    kept: () =>
      readFileSync(file, "utf8")
        .split("\n")
        .filter((line) => line.endsWith("}"))
        .flatMap((line) => parsed(line)),
  };
}

function parsed(line: string): { stream: string; seq: number }[] {
  try {
    return [JSON.parse(line) as { stream: string; seq: number }];
  } catch {
    return [];
  }
}

const lines = (stream: string, seqs: readonly number[], payload: unknown = {}): string =>
  seqs
    .map((seq) => `${JSON.stringify({ device: "d", epoch: "e", stream, seq, payload })}\n`)
    .join("");

const post = (url: string, body: string, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: "POST",
    body: headers["content-encoding"] ? gzipSync(body) : body,
    headers,
  });

test("receiver.mjs keeps each name once and tells holes, until they come or the device says that they will not", async (t) => {
  const { url, told, kept, kill, start, file } = await receiver(t, tempDir(t));
  assert.equal((await post(url, lines("a", [1, 2, 3, 7, 8]))).status, 204);
  const gzip = { "content-encoding": "gzip" };
  assert.equal((await post(url, lines("a", [3, 12, 5]), gzip)).status, 204);
  const now = (await told())["d/e/a"];
  assert.deepEqual(now?.held, [
    [1, 3],
    [5, 5],
    [7, 8],
    [12, 12],
  ]);
  assert.deepEqual(now?.missing, [
    [4, 4],
    [6, 6],
    [9, 11],
  ]);
  assert.equal(now?.repeated, 1);
  // Thinned: some may still come. Dropped: they will not.
  await post(url, lines("_gaps", [1], { stream: "a", from: 4, to: 4, kept: 1, reason: "thinned" }));
  await post(url, lines("_gaps", [2], { stream: "a", from: 6, to: 10, kept: 0, reason: "quota" }));
  await post(url, lines("a", [4]));
  assert.deepEqual((await told())["d/e/a"]?.missing, [[11, 11]]);
  assert.equal((await post(url, "no JSON")).status, 400);
  // A crash amid a line: it was never answered for.
  await kill();
  writeFileSync(file, '{"device":"d","epoch":"e","stream":"a","se', { flag: "a" });
  await start();
  assert.deepEqual((await told())["d/e/a"]?.missing, [[11, 11]]);
  await post(url, lines("a", [11]));
  assert.deepEqual((await told())["d/e/a"]?.held, [
    [1, 5],
    [7, 8],
    [11, 12],
  ]);
  await kill();
  assert.equal(kept().length, 11);
  assert.match(readFileSync(file, "utf8"), /^\{"device":"d","epoch":"e","stream":"a","se$/m);
});

test("receiver.mjs has each event once when answers are lost, and it and the agent are killed while they talk", async (t) => {
  const [folder, count] = [tempDir(t), 4_000];
  const far = await receiver(t, folder);
  let answers = 0;
  const way = await startLossyProxy(t, far.port, () => ++answers % 7 === 0);
  const { agent, publish } = await fedAgent(
    t,
    folder,
    `
sinks:
  far: { type: http, url: "http://127.0.0.1:${way.port}/", from: [load], batch: { max: 50 } }
`,
  );
  const publisher = publish({ count, rate: 500, window: 50, resilient: true });
  const held = async (): Promise<Told | undefined> => Object.values(await far.told())[0];
  // What it counts it forgets when it is killed.
  let repeated = 0;
  for (let kill = 0; kill < 3; kill++) {
    await delay(1_000);
    repeated += (await held())?.repeated ?? 0;
    await far.kill();
    await delay(300);
    await far.start();
    await delay(700);
    await agent.kill();
    await agent.start();
  }
  await publisher.done;
  await until("all to be held", async () => ((await held())?.held[0]?.[1] ?? 0) >= count, 60_000);
  const { missing, held: ranges, ...rest } = (await held()) as Told;
  repeated += rest.repeated;
  const last = ranges[0]?.[1] ?? 0;
  assert.deepEqual([ranges, missing], [[[1, last]], []]);
  t.diagnostic(
    `${last} held of ${count} published, ${way.lost()} answers lost, ${repeated} came again`,
  );
  assert.ok(way.lost() > 0 && repeated > 0, "nothing came again: it proves nothing");
  assert.deepEqual(
    far.kept().map(({ seq }) => seq),
    range(1, last),
  );
});

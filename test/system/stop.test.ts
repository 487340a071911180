/** How `holdfast run` ends: by signals, and when it cannot start. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent } from "../support/child-agent.ts";
import { holdfast, startHoldfast, type Running } from "../support/command-line.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Made {
  readonly archive: string;
  readonly port: number;
  readonly httpUrl: string;
  start(): Promise<Running>;
}

/** The agent, with its configuration, not started yet. */
async function makeAgent(t: TestContext, sinks = ""): Promise<Made> {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/#"], stream: load }
streams:
  load: { linger: 50ms }
sinks:
  archive: { type: file, path: ${archive}, from: [load] }
${sinks}`,
  );
  return {
    archive,
    port,
    httpUrl: agent.httpUrl,
    async start() {
      const running = startHoldfast(t, ["run", "--config", agent.configFile]);
      await running.shows("The agent is ready");
      return running;
    },
  };
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`run ends with 0 within 5 s of ${signal} under load, and nothing acknowledged is lost`, async (t) => {
    const dead = await freePort();
    const made = await makeAgent(
      t,
      `  up: { type: mqtt, url: "mqtt://127.0.0.1:${dead}", from: [load] }\n`,
    );
    const running = await made.start();
    const publisher = startPublisher({
      url: `mqtt://127.0.0.1:${made.port}`,
      topic: "load/d1",
      count: 1_000_000,
      qos: 1,
      window: 1000,
      rate: 5000,
    });
    t.after(() => publisher.end());
    await until("load", () => publisher.acknowledged() > 5_000);
    const began = performance.now();
    running.send(signal);
    const { code, err } = await running.ended;
    const tookMs = performance.now() - began;
    assert.equal(code, 0, err);
    assert.ok(tookMs < 5_000, `${tookMs} ms`);
    await publisher.done.catch(() => undefined);
    const acknowledged = publisher.acknowledged();
    // What was accepted at the end is delivered after the next start.
    const again = await made.start();
    await until("all that was acknowledged in the archive", () => {
      return readArchive(made.archive, "load").length >= acknowledged;
    });
    again.send("SIGTERM");
    await again.ended;
    const numbers = readArchive(made.archive, "load").map((line) => line.payload["n"]);
    assert.deepEqual(
      numbers,
      numbers.map((_, n) => n),
      "each once and in order",
    );
    t.diagnostic(`${tookMs.toFixed(0)} ms, ${acknowledged} acknowledged`);
  });
}

test("run is ended at once by a second signal", async (t) => {
  const made = await makeAgent(
    t,
    "processors:\n  slow: { from: load, handler: ./slow.js, batch: { wait: 10ms } }\n",
  );
  // It takes no notice of being told to stop: stopping waits for it as long as the grace lasts.
  const handler = "export default () => new Promise((resolve) => setTimeout(resolve, 20000));\n";
  writeFileSync(join(made.archive, "..", "slow.js"), handler);
  const running = await made.start();
  const url = `mqtt://127.0.0.1:${made.port}`;
  const publisher = startPublisher({ url, topic: "load/d1", count: 1, qos: 1, window: 1 });
  t.after(() => publisher.end());
  await publisher.done;
  await delay(300);
  running.send("SIGTERM");
  await delay(200);
  const began = performance.now();
  running.send("SIGTERM");
  const { code } = await running.ended;
  assert.equal(code, 143, "128 and the signal's number");
  assert.ok(performance.now() - began < 500, `${performance.now() - began} ms`);
});

test("run that waits for room on a full disk says so, and a signal ends it with 0", async (t) => {
  const disk = smallDisk(t, 1024 * 1024);
  disk.fill();
  const agent = await childAgent(disk.folder, "sources:\n  board: { type: system }\n", {
    configFolder: tempDir(t),
  });
  const running = startHoldfast(t, ["run", "--config", agent.configFile]);
  await until("the health to say that the disk is full", async () => {
    const health = await agent.health().catch(() => undefined);
    return health?.components["journal"]?.["trouble"] === "disk-full";
  });
  const began = performance.now();
  running.send("SIGTERM");
  const { code, err } = await running.ended;
  assert.equal(code, 0, err);
  assert.equal(err, "");
  assert.ok(performance.now() - began < 2_000, `${performance.now() - began} ms`);
  disk.empty();
  const again = startHoldfast(t, ["run", "--config", agent.configFile]);
  await again.shows("The agent is ready");
});

test("run says which port is taken and what to do, and exits with 78", async (t) => {
  const made = await makeAgent(t);
  const taken = createServer().listen(made.port, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  const file = join(made.archive, "..", "agent.yaml");
  const { code, err, tookMs } = await holdfast(t, ["run", "--config", file]);
  assert.equal(code, 78, err);
  assert.match(err, new RegExp(`^holdfast: .*127\\.0\\.0\\.1:${made.port}.*`));
  assert.match(err, /another process has it|in use|taken/);
  assert.match(err, /LISTEN_FAILED: \S+/);
  assert.doesNotMatch(err, /\n\s+at /);
  assert.ok(tookMs < 5_000, `${tookMs} ms`);
});

test("run with no configuration file where one is named exits with 78 and one line", async (t) => {
  const { code, err } = await holdfast(t, ["run", "--config", join(tempDir(t), "none.yaml")]);
  assert.equal(code, 78, err);
  assert.match(err, /none\.yaml/);
  assert.doesNotMatch(err, /\n\s+at /);
});

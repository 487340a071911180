/** A million events of backlog: memory and start must not feel it (invariant 7). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { figure, untilFigure } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { tempDir } from "../support/temp-dir.ts";

const backlog = 1_000_000;
/** Equal traffic before each measurement, so that both have compiled and filled the same. */
const warmUp = 20_000;
const idleMs = 3_000;

async function publish(port: number, count: number): Promise<void> {
  const url = `mqtt://127.0.0.1:${port}`;
  const publisher = startPublisher({ url, topic: "load/d1", count, qos: 1, window: 2000 });
  assert.equal(await publisher.done, count);
}

/** Resident MiB after equal traffic and equal rest. */
async function measured(agent: ChildAgent, port: number): Promise<number> {
  await publish(port, warmUp);
  await delay(idleMs);
  return agent.rssKiB() / 1024;
}

/** From the process's start until it says that it is ready, ms: both by the log's own times. */
async function startMs(agent: ChildAgent): Promise<number> {
  const began = performance.now();
  await agent.start();
  return performance.now() - began;
}

test("run with a million events of backlog takes no more memory and starts as fast as with none", async (t) => {
  const folder = tempDir(t);
  const [port, dead] = [await freePort(), await freePort()];
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 50ms }
sinks:
  up: { type: mqtt, url: "mqtt://127.0.0.1:${dead}", from: [load] }
`,
  );
  t.after(() => agent.kill());
  // The first start compiles; the caches are the same for the two that are measured.
  await agent.start();
  await agent.stop();
  const emptyStartMs = await startMs(agent);
  const emptyMiB = await measured(agent, port);

  await publish(port, backlog - warmUp);
  await untilFigure(agent, "holdfast_journal_events", (value) => value >= backlog);
  const loadedMiB = agent.rssKiB() / 1024;
  await agent.stop();

  const fullStartMs = await startMs(agent);
  const fullMiB = await measured(agent, port);
  const lag = figure(await agent.metrics(), 'stream_lag{stream="load",group="up"}');
  t.diagnostic(
    `RSS ${emptyMiB.toFixed(1)} MiB with none, ${fullMiB.toFixed(1)} with ${lag}, ${loadedMiB.toFixed(1)} just after taking them in; ` +
      `ready after ${emptyStartMs.toFixed(0)} ms with none, ${fullStartMs.toFixed(0)} with all`,
  );
  assert.equal(lag, backlog + warmUp);
  assert.ok(fullMiB <= emptyMiB * 1.15, `${fullMiB} MiB, with none ${emptyMiB}`);
  assert.ok(fullStartMs < 2_000, `${fullStartMs} ms until ready, Node's own start included`);
});

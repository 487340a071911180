/** A processor with state in a real agent: exactly once across kill -9, and what becomes of a failing event. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { figure, untilFigure } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** Counts the events of each key in its state, emits the count twice over: as a result, and by context.emit. */
const counting = `
export default async (event, context) => {
  const count = ((await context.state.get(event.key)) ?? 0) + 1;
  context.state.put(event.key, count);
  context.emit("audit", { key: event.key, count, n: event.payload.n }, { key: event.key });
  return { key: event.key, count, n: event.payload.n };
};
`;

/** Fails for one event for ever, and for another until its third attempt. */
const failing = `
export default (event, context) => {
  const { n } = event.payload;
  if (n === 30) throw new Error("Cannot bear thirty");
  if (n === 60 && context.attempt < 3) throw new Error("Not yet");
  return { n, attempt: context.attempt };
};
`;

interface Started {
  readonly agent: ChildAgent;
  readonly archive: string;
  readonly port: number;
}

async function startAgent(t: TestContext, handler: string, processor: string): Promise<Started> {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const port = await freePort();
  mkdirSync(join(folder, "handlers"));
  writeFileSync(join(folder, "handlers", "handler.mjs"), handler);
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms, key: temperature }
  audit: {}
processors:
  count:
    from: load
    handler: ./handlers/handler.mjs
    to: counts
    batch: { max: 200, wait: 20ms }
${processor}
sinks:
  archive: { type: file, path: ${archive}, from: [counts, audit], maxFileBytes: 1MiB }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  return { agent, archive, port };
}

async function untilDone(agent: ChildAgent): Promise<void> {
  for (const [stream, group] of [
    ["load", "count"],
    ["counts", "archive"],
    ["audit", "archive"],
  ] as const) {
    const name = `stream_lag{stream="${stream}",group="${group}"}`;
    await untilFigure(agent, name, (value) => value === 0, 60_000);
  }
}

test("a handler with state has had its effects exactly once for each event after five kills", async (t) => {
  // The publisher counts temperatures from 15 to 34.9: the filter takes three quarters of them.
  const { agent, archive, port } = await startAgent(
    t,
    counting,
    "    steps: [{ filter: 'payload.temperature < 30.0' }]",
  );
  const count = 30_000;
  const publisher = startPublisher({
    url: `mqtt://127.0.0.1:${port}`,
    topic: "load/d1",
    count,
    qos: 1,
    window: 200,
    rate: 2_000,
    resilient: true,
  });
  t.after(() => publisher.end());
  for (let kill = 0; kill < 5; kill++) {
    await delay(300 + Math.random() * 500);
    await agent.kill();
    await agent.start();
  }
  assert.ok(publisher.acknowledged() < count, "the kills fell under load");
  assert.equal(await publisher.done, count);
  await untilDone(agent);
  const journalled = await entered(agent);
  const passing = journalled.filter((event) => event.payload.temperature < 30).length;
  assert.ok(journalled.length >= count);
  assert.ok(passing > 0 && passing < journalled.length, "the filter keeps some and drops some");
  for (const stream of ["counts", "audit"]) {
    const lines = readArchive(archive, stream);
    const counts = new Map<string, number>();
    for (const [index, line] of lines.entries()) {
      assert.equal(line.seq, index + 1);
      const { key, count: found } = line.payload as { key: string; count: number };
      assert.equal(found, (counts.get(key) ?? 0) + 1, `${stream} ${line.seq}, key ${key}`);
      counts.set(key, found);
    }
    assert.equal(lines.length, passing, stream);
  }
  t.diagnostic(`${journalled.length - count} repeats sent again by the publisher, ${passing} out`);
});

/** What is in the stream, by the admin API. */
async function entered(agent: ChildAgent): Promise<{ payload: { temperature: number } }[]> {
  const url = `${agent.adminUrl}/streams/load/events?from=1&limit=1000000`;
  const text = await (await fetch(url)).text();
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { payload: { temperature: number } });
}

test("a failing event is tried again and then dead-lettered, and the others go on", async (t) => {
  const { agent, archive, port } = await startAgent(
    t,
    failing,
    "    retry: { attempts: 3, backoff: 50ms, maxBackoff: 200ms }",
  );
  const publisher = startPublisher({
    url: `mqtt://127.0.0.1:${port}`,
    topic: "load/d1",
    count: 100,
    qos: 1,
    window: 100,
  });
  t.after(() => publisher.end());
  await publisher.done;
  await untilFigure(agent, 'holdfast_dlq_events{stream="load"}', (value) => value === 1);
  await until("99 out", () => readArchive(archive, "counts").length === 99);
  const out = readArchive(archive, "counts").map((line) => line.payload);
  const numbers = out.map((payload) => Number(payload["n"])).sort((a, b) => a - b);
  assert.deepEqual(
    numbers,
    Array.from({ length: 100 }, (_, n) => n).filter((n) => n !== 30),
  );
  assert.equal(out.find((payload) => payload["n"] === 60)?.["attempt"], 3);
  const answer = await fetch(`${agent.adminUrl}/streams/load/dlq`);
  const { deadLetters } = (await answer.json()) as {
    deadLetters: {
      origin: string;
      originName: string;
      seq: number;
      attempts: number;
      reason: string;
      payload: { n: number };
      headers: Record<string, string>;
    }[];
  };
  assert.equal(deadLetters.length, 1);
  const [letter] = deadLetters;
  assert.deepEqual(
    [letter?.origin, letter?.originName, letter?.seq, letter?.attempts, letter?.payload.n],
    ["processor", "count", 31, 3, 30],
  );
  assert.match(letter?.reason ?? "", /Cannot bear thirty/);
  assert.equal(letter?.headers["topic"], "load/d1");
  const metrics = await agent.metrics();
  const processed = (status: string): number | undefined =>
    figure(
      metrics,
      `stream_messages_processed_total{stream="load",group="count",status="${status}"}`,
    );
  assert.equal(processed("success"), 99);
  assert.equal(processed("dead_letter"), 1);
});

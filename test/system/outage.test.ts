/**
 * Brokers that are not there, on either side, while messages come.
 *
 * Sessions are on disk: SIGTERM writes them. What a killed mosquitto had acknowledged and not handed over is its
 * own loss, so a tap on the wire to the agent says what it handed over. On the wire to the upstream's subscriber
 * mosquitto writes a message before it acknowledges it to the agent.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent, type HealthAnswer } from "../support/child-agent.ts";
import { figure, untilFigure, untilPartIs } from "../support/figures.ts";
import { freePort, startMosquitto, type Mosquitto } from "../support/mosquitto.ts";
import { startPublisher, type Publisher } from "../support/publishing.ts";
import { startSubscriber } from "../support/subscriber.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { startWireTap } from "../support/wire-tap.ts";

const outageMs = 5_000;
/** Nothing is held back, neither by a window nor by Nagle's algorithm. */
const unlimited = "max_inflight_messages 0\nset_tcp_nodelay true\n";

async function startBroker(t: TestContext, port?: number): Promise<Mosquitto> {
  const folder = tempDir(t);
  const config = `${unlimited}persistence true\npersistence_location ${folder}/\n`;
  const broker = await startMosquitto(folder, config, port);
  t.after(() => broker.kill());
  return broker;
}

async function startAgent(t: TestContext, folder: string, yaml: string): Promise<ChildAgent> {
  const agent = await childAgent(folder, yaml);
  t.after(() => agent.kill());
  await agent.start();
  return agent;
}

function publish(t: TestContext, url: string, count: number, rate: number): Publisher {
  const publisher = startPublisher({
    url,
    topic: "load/d1",
    count,
    qos: 1,
    window: 200,
    rate,
    resilient: true,
  });
  t.after(() => publisher.end());
  return publisher;
}

const throughSource = (url: string, archive: string): string => `
sources:
  in: { type: mqtt, url: "${url}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 50ms }
sinks:
  archive: { type: file, path: ${archive}, from: [load] }
`;

/** Degraded, not failing: what it has is safe. `since` is between the two moments. */
function assertTold(answer: HealthAnswer, part: string, fromMs: number): void {
  assert.equal(answer.status, "degraded");
  const { status, detail, since } = answer.components[part] ?? { status: "" };
  assert.notEqual(status, "ok");
  assert.match(String(detail), /127\.0\.0\.1:\d+/, "the detail names the far side");
  const sinceMs = Date.parse(String(since));
  assert.ok(sinceMs >= fromMs - 100 && sinceMs <= Date.now() + 100, String(since));
}

test("run starts before its broker, says so, and connects when it comes", async (t) => {
  const folder = tempDir(t);
  const port = await freePort();
  const archive = join(folder, "archive");
  const beganMs = Date.now();
  const agent = await startAgent(t, folder, throughSource(`mqtt://127.0.0.1:${port}`, archive));
  const told = await untilPartIs(agent, "in", "degraded");
  assertTold(told, "in", beganMs);
  assert.equal(figure(await agent.metrics(), 'holdfast_source_connected{source="in"}'), 0);
  await startBroker(t, port);
  await untilPartIs(agent, "in", "ok");
  assert.equal((await agent.health()).status, "ok");
  await publish(t, `mqtt://127.0.0.1:${port}`, 100, 0).done;
  await until("100 in the archive", () => readArchive(archive, "load").length === 100);
});

test("run loses nothing when its broker is killed for 5 s under load, tells since when, and heals", async (t) => {
  const folder = tempDir(t);
  const broker = await startBroker(t);
  const archive = join(folder, "archive");
  const tap = await startWireTap(t, broker.port);
  const tapUrl = `mqtt://127.0.0.1:${tap.port}`;
  const agent = await startAgent(t, folder, throughSource(tapUrl, archive));
  await untilPartIs(agent, "in", "ok");
  await untilFigure(agent, 'holdfast_source_connected{source="in"}', (value) => value === 1);
  // SIGTERM: the agent's session is on disk from here on.
  await broker.stop();
  await broker.start();
  await untilFigure(agent, 'holdfast_source_connected{source="in"}', (value) => value === 1);
  const count = 15_000;
  const publisher = publish(t, broker.url, count, 1_500);
  await until("load", () => publisher.acknowledged() > 3_000);
  const killedMs = Date.now();
  await broker.kill();
  const told = await untilPartIs(agent, "in", "degraded");
  assertTold(told, "in", killedMs);
  await delay(outageMs);
  assert.ok(publisher.acknowledged() < count, "the broker was killed under load");
  await broker.start();
  await untilPartIs(agent, "in", "ok");
  assert.equal(await publisher.done, count);
  await until("the broker to be done", () => performance.now() - tap.lastMs() > 1_500);
  await untilFigure(agent, 'stream_lag{stream="load",group="archive"}', (value) => value === 0);
  const numbers = readArchive(archive, "load").map((line) => Number(line.payload["n"]));
  const found = new Set(numbers);
  const handedOver = new Set(tap.handedOver.map((text) => (JSON.parse(text) as { n: number }).n));
  assert.deepEqual(
    [...handedOver].filter((n) => !found.has(n)),
    [],
    "what was handed over and is missing",
  );
  // One write of the publisher is at most a window of 200.
  assert.ok(found.size >= count - 200, `${count - found.size} never came`);
  const repeats = numbers.length - found.size;
  assert.ok(repeats <= 200, `${repeats} repeats`);
  t.diagnostic(`${repeats} repeats, ${count - found.size} lost in the broker's own death`);
  assert.equal((await agent.health()).status, "ok");
});

test("run delivers all when the upstream broker is killed for 5 s under load, each event under its name", async (t) => {
  const folder = tempDir(t);
  const upstream = await startBroker(t);
  const subscriber = await startSubscriber(t, upstream.port, "edge/#");
  // SIGTERM: the subscriber's session is on disk from here on.
  await upstream.stop();
  await upstream.start();
  await until("the subscription", () => subscriber.isSubscribed());
  const port = await freePort();
  const agent = await startAgent(
    t,
    folder,
    `
device: { id: box }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 50ms }
sinks:
  up: { type: mqtt, url: "${upstream.url}", from: [load], topic: "edge/{device}/{stream}" }
`,
  );
  const count = 15_000;
  const publisher = publish(t, `mqtt://127.0.0.1:${port}`, count, 1_500);
  await until("events upstream", () => subscriber.received.length > 3_000);
  const killedMs = Date.now();
  await upstream.kill();
  assertTold(await untilPartIs(agent, "up", "degraded"), "up", killedMs);
  await delay(outageMs);
  assert.ok(publisher.acknowledged() < count, "the upstream was killed under load");
  assert.ok((figure(await agent.metrics(), 'stream_lag{stream="load",group="up"}') ?? 0) > 3_000);
  await upstream.start();
  assert.equal(await publisher.done, count);
  await untilPartIs(agent, "up", "ok");
  const seqs = (): Set<number> =>
    new Set(subscriber.received.map(({ properties }) => Number(properties["seq"])));
  await until("all upstream", () => seqs().size >= count, 30_000);
  const epoch = subscriber.received[0]?.properties["epoch"];
  for (const { topic, payload, properties } of subscriber.received) {
    assert.equal(topic, "edge/box/load");
    assert.deepEqual([properties["device"], properties["stream"]], ["box", "load"]);
    assert.equal(properties["epoch"], epoch);
    assert.equal(
      (JSON.parse(payload) as { n: number }).n,
      Number(properties["seq"]) - 1,
      "the name names the same event whenever it is sent",
    );
  }
  assert.match(String(epoch), /^[0-9a-f-]{16,}$/);
  t.diagnostic(`${subscriber.received.length - count} sent again, the window is 256`);
  assert.equal((await agent.health()).status, "ok");
});

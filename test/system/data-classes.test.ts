/** Alarms and telemetry at a full journal while the upstream is away: the alarms are all there afterwards. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Gap } from "../../src/journal/gaps.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { untilFigure, untilPartIs } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import type { Subscriber } from "../support/subscriber.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { startUpstream } from "../support/upstream.ts";

/** Some six times what fits into 1 MiB, which is the least that may be configured. */
const telemetry = 20_000;
const alarms = 400;
const size = 300;

function numbersOf(subscriber: Subscriber, stream: string): number[] {
  const events = subscriber.received.filter(({ topic }) => topic === `edge/${stream}`);
  return events.map(({ payload }) => (JSON.parse(payload) as { n: number }).n);
}

interface Started {
  readonly agent: ChildAgent;
  readonly folder: string;
  readonly ports: { readonly alarms: number; readonly telemetry: number; readonly up: number };
}

/** Two sources of their own streams, alarms above telemetry, and an upstream that is not there. */
async function started(t: TestContext, telemetryClass: string, from: string): Promise<Started> {
  const folder = tempDir(t);
  const [alarms, other, up] = [await freePort(), await freePort(), await freePort()];
  const agent = await childAgent(
    folder,
    `
sources:
  alarms: { type: broker, listen: "127.0.0.1:${alarms}", topics: ["alarm/{device}"], stream: alarms }
  load: { type: broker, listen: "127.0.0.1:${other}", topics: ["load/{device}"], stream: telemetry }
streams:
  telemetry: { linger: 20ms, priority: 2, ${telemetryClass} }
  alarms: { linger: 20ms, priority: 9 }
sinks:
  up: { type: mqtt, url: "mqtt://127.0.0.1:${up}", from: [${from}], topic: "edge/{stream}" }
`,
    { journal: `  maxBytes: 1MiB\n` },
  );
  t.after(() => agent.kill());
  await agent.start();
  return { agent, folder, ports: { alarms, telemetry: other, up } };
}

test("telemetry that rejects is held back alone: alarms are acknowledged meanwhile, and nothing is lost", async (t) => {
  const { agent, folder, ports } = await started(t, "whenFull: reject", "alarms, telemetry");
  const { alarms: port, telemetry: other, up } = ports;
  const common = { qos: 1, size, noise: true } as const;
  const count = 6_000;
  const url = (at: number): string => `mqtt://127.0.0.1:${at}`;
  const load = startPublisher({ ...common, url: url(other), topic: "load/d1", count, window: 500 });
  t.after(() => load.end());
  const health = await untilPartIs(agent, "journal", "degraded");
  assert.match(String(health.components["journal"]?.detail), /no room for telemetry: ack/);
  const alarm = startPublisher({
    ...common,
    url: url(port),
    topic: "alarm/d1",
    count: 100,
    window: 20,
  });
  t.after(() => alarm.end());
  assert.equal(await alarm.done, 100, "alarms are acknowledged");
  assert.ok(load.acknowledged() < count, "telemetry waits");

  const subscriber = await startUpstream(t, folder, up);
  assert.equal(await load.done, count);
  await until("all upstream", () => new Set(numbersOf(subscriber, "telemetry")).size === count);
  assert.equal(new Set(numbersOf(subscriber, "alarms")).size, 100);
  assert.doesNotMatch(await agent.metrics(), /^holdfast_journal_dropped_total\{.*\} [1-9]/m);
});

test("alarms survive a full journal whole while telemetry thins, as _gaps and the metric tell", async (t) => {
  const { agent, folder, ports } = await started(
    t,
    "whenFull: thin, thin: 1s, key: device",
    "alarms, telemetry, _gaps",
  );
  const { alarms: port, telemetry: other, up } = ports;
  const common = { qos: 1, size, noise: true } as const;
  const load = startPublisher({
    ...common,
    url: `mqtt://127.0.0.1:${other}`,
    topic: "load/d1",
    count: telemetry,
    rate: 3_000,
    window: 500,
  });
  t.after(() => load.end());
  const alarm = startPublisher({
    ...common,
    url: `mqtt://127.0.0.1:${port}`,
    topic: "alarm/d1",
    count: alarms,
    rate: 60,
    window: 50,
  });
  t.after(() => alarm.end());
  assert.equal(await load.done, telemetry, "telemetry is never held up");
  assert.equal(await alarm.done, alarms);
  const health = await untilPartIs(agent, "journal", "degraded");
  assert.match(String(health.components["journal"]?.detail), /telemetry \d+ \(thinned\)/);
  const metrics = await agent.metrics();
  assert.doesNotMatch(metrics, /^holdfast_journal_dropped_total\{stream="alarms",.*\} [1-9]/m);

  const subscriber = await startUpstream(t, folder, up);
  await untilFigure(agent, 'stream_lag{stream="telemetry",group="up"}', (value) => value === 0);
  const dropped = async (reason: string): Promise<number> => {
    const series = `holdfast_journal_dropped_total{stream="telemetry",reason="${reason}"} `;
    const line = (await agent.metrics()).split("\n").find((each) => each.startsWith(series));
    return Number(line?.slice(series.length) ?? 0);
  };
  const [thinned, quota] = [await dropped("thinned"), await dropped("quota")];
  assert.ok(thinned > telemetry / 2, String(thinned));
  const gaps = (): Gap[] =>
    subscriber.received
      .filter(({ topic }) => topic === "edge/_gaps")
      .map(({ payload }) => JSON.parse(payload) as Gap);
  const told = (): number =>
    gaps()
      .filter(({ reason }) => reason === "thinned")
      .reduce((sum, { from, to, kept }) => sum + (to - from + 1 - kept), 0);
  await until("the gaps upstream", () => told() >= thinned, 30_000);
  assert.equal(told(), thinned, "the metric and _gaps tell the same");
  assert.deepEqual(
    numbersOf(subscriber, "alarms"),
    Array.from({ length: alarms }, (_, n) => n),
    "each alarm once, in order",
  );
  const arrived = new Set(numbersOf(subscriber, "telemetry"));
  assert.equal(telemetry - arrived.size, thinned + quota, "what is counted is missing");
  const named = new Set<number>();
  for (const { stream, from, to } of gaps()) {
    assert.equal(stream, "telemetry");
    // Message n is event n + 1.
    for (let seq = from; seq <= to; seq++) named.add(seq - 1);
  }
  const missing = Array.from({ length: telemetry }, (_, n) => n).filter((n) => !arrived.has(n));
  assert.deepEqual(
    missing.filter((n) => !named.has(n)),
    [],
    "what is missing is named",
  );
  const ofThinned = [...named].filter((n) => arrived.has(n));
  assert.ok(ofThinned.length > 0, "of what was thinned some stayed");
  t.diagnostic(`${thinned} thinned and ${quota} dropped of ${telemetry}, ${gaps().length} gaps`);
});

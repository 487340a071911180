import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test, type TestContext } from "node:test";
import { watchEventLoop } from "../../src/host/event-loop.ts";
import { createHealthBook, type HealthBook } from "../../src/host/health.ts";
import { createHttpServer } from "../../src/host/http.ts";
import { parseListen } from "../../src/host/listen.ts";
import { createMetrics } from "../../src/host/metrics.ts";
import { formatFigure, label } from "../../src/host/status-page.ts";
import { statusRoutes } from "../../src/host/status.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";

interface Served {
  readonly url: string;
  readonly health: HealthBook;
  readonly clock: FakeClock;
  readonly setReady: (ready: boolean) => void;
}

async function served(t: TestContext): Promise<Served> {
  const clock = new FakeClock();
  const health = createHealthBook({ clock, version: "0.1.0", device: () => "green<house>" });
  const eventLoop = watchEventLoop();
  t.after(() => eventLoop.stop());
  const metrics = createMetrics({ eventLoop });
  let ready = false;
  const routes = statusRoutes({ clock, health, metrics, isReady: () => ready });
  const { log } = recordingContext("http");
  const server = createHttpServer({ log, listen: parseListen("127.0.0.1:0"), routes });
  await server.open();
  t.after(() => server.close());
  return { url: `http://${server.address()}`, health, clock, setReady: (now) => (ready = now) };
}

test("GET /health is 200 for ok and degraded, 503 for failing", async (t) => {
  const { url, health } = await served(t);
  const journal = health.component("agent", "journal");
  const statuses: [number, string][] = [];
  for (const status of ["ok", "degraded", "failing"] as const) {
    journal.report(status, "The disk is slow");
    const response = await fetch(`${url}/health`);
    const body = (await response.json()) as { status: string; components: Record<string, unknown> };
    assert.deepEqual(Object.keys(body.components), ["journal"]);
    statuses.push([response.status, body.status]);
  }
  assert.deepEqual(statuses, [
    [200, "ok"],
    [200, "degraded"],
    [503, "failing"],
  ]);
});

test("GET /ready is 503 until everything is open, and again while stopping", async (t) => {
  const { url, setReady } = await served(t);
  const status = async (): Promise<number> => (await fetch(`${url}/ready`)).status;
  assert.equal(await status(), 503);
  setReady(true);
  assert.equal(await status(), 200);
  setReady(false);
  assert.equal(await status(), 503);
});

test("GET /metrics answers in the format that Accept asks for", async (t) => {
  const { url } = await served(t);
  const plain = await fetch(`${url}/metrics`);
  assert.match(plain.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  assert.match(await plain.text(), /^# TYPE holdfast_clock_synced gauge$/m);
  const accept = "application/openmetrics-text;version=1.0.0";
  const open = await fetch(`${url}/metrics`, { headers: { accept } });
  assert.match(await open.text(), /# EOF\n$/);
});

test("GET / says first what is wrong, and since when", async (t) => {
  const { url, health, clock } = await served(t);
  health.component("agent", "journal");
  const cloud = health.component("sink", "cloud");
  cloud.figures(() => ({ lag: 48_211, oldestUnsentSeconds: 120 }));
  cloud.report("failing", "Cannot reach <b>up.example</b>: refused");
  clock.advance(120_000);
  const response = await fetch(url);
  const page = await response.text();
  assert.equal(response.status, 200);
  assert.match(page, /<h1>Degraded<\/h1>/);
  assert.match(page, /One part is in trouble/);
  assert.match(page, /Sink cloud<\/span>\s*<em>failing for 2m<\/em>/);
  assert.match(page, /Cannot reach &lt;b&gt;up\.example&lt;\/b&gt;: refused/);
  assert.match(page, /<dt>lag<\/dt><dd id="cloud-lag" data-count="48211">48,211<\/dd>/);
  assert.match(page, /<dt>oldest unsent<\/dt><dd>2m<\/dd>/);
  assert.ok(page.indexOf("Cannot reach") < page.indexOf(">journal<"));
  assert.doesNotMatch(page, /green<house>/);
});

test("GET / promises nothing about what was accepted while the journal is in trouble", async (t) => {
  const { url, health } = await served(t);
  const journal = health.component("agent", "journal");
  health.component("sink", "cloud").report("degraded", "Slow");
  assert.match(await (await fetch(url)).text(), /is safe in the journal/);
  journal.report("degraded", "Full: the oldest events are dropped");
  assert.doesNotMatch(await (await fetch(url)).text(), /is safe in the journal/);
});

test("GET / loads nothing, and its policy allows its own script and style and no other", async (t) => {
  const { url } = await served(t);
  const response = await fetch(url);
  const page = await response.text();
  const policy = response.headers.get("content-security-policy") ?? "";
  for (const tag of ["script", "style"]) {
    const inner = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(page)?.[1] ?? assert.fail(tag);
    const digest = createHash("sha256").update(inner).digest("base64");
    assert.ok(policy.includes(`${tag}-src 'sha256-${digest}'`), tag);
  }
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(page, /(src|href)="(https?:)?\/\//);
  assert.doesNotMatch(page, / style="| on\w+="/);
});

test("formatFigure() and label() read the unit from a figure's name", () => {
  const cases: [string, string | number | boolean | null, string, string][] = [
    ["usedBytes", 1536, "used", "1.5 KiB"],
    ["oldestUnsentSeconds", 0, "oldest unsent", "0s"],
    ["oldestUnsentSeconds", 3725, "oldest unsent", "1h 2m"],
    ["lastCommitMs", 12.4, "last commit", "12ms"],
    ["temperatureCelsius", 51.26, "temperature", "51.3 °C"],
    ["failingShare", 0.034, "failing", "3 %"],
    ["eventsPerSecond", 1234.5, "events", "1,234.5/s"],
    ["lag", 1_234_567, "lag", "1,234,567"],
    ["connected", true, "connected", "yes"],
    ["url", "mqtts://broker", "url", "mqtts://broker"],
    ["rate", null, "rate", "–"],
  ];
  for (const [key, value, name, shown] of cases) {
    assert.deepEqual([label(key), formatFigure(key, value)], [name, shown]);
  }
});

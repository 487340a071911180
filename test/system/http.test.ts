/** What a technician and a Prometheus see of a running agent that has something wrong with it. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { metricTable } from "../../src/core/metrics.ts";
import type { ChildAgent } from "../support/child-agent.ts";
import { fedAgent } from "../support/fed-agent.ts";
import { figure, untilFigure, untilPartIs } from "../support/figures.ts";
import { freePort, requireProgram } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";

/** The names of the contract, written out: a renamed metric breaks other people's dashboards. */
const contract = [
  "stream_lag{stream,group}",
  "stream_messages_processed_total{stream,group,status}",
  "stream_processing_seconds{stream,group}",
  "holdfast_journal_events",
  "holdfast_journal_bytes",
  "holdfast_journal_commits_total",
  "holdfast_journal_commit_seconds",
  "holdfast_journal_dropped_total{stream,reason}",
  "holdfast_journal_disk_bytes_written_total",
  "holdfast_source_events_total{source,status}",
  "holdfast_source_connected{source}",
  "holdfast_sink_events_total{sink,status}",
  "holdfast_sink_connected{sink}",
  "holdfast_sink_oldest_unsent_seconds{sink}",
  "holdfast_dlq_events{stream}",
  "holdfast_plane_connected",
  "holdfast_clock_synced",
  "holdfast_event_loop_lag_seconds",
  "process_resident_memory_bytes",
  "process_cpu_seconds_total",
];

/** 50 events through a filter, a file that takes them, and an upstream that is away. */
async function startAgent(t: TestContext): Promise<ChildAgent> {
  const folder = tempDir(t);
  const dead = await freePort();
  const { agent, publish } = await fedAgent(
    t,
    folder,
    `
device: { id: roof-7 }
processors:
  warm: { from: load, steps: [{ filter: "payload.n >= 10" }], to: warm, batch: { wait: 10ms } }
sinks:
  archive: { type: file, path: ${folder}/archive, from: [warm] }
  up: { type: mqtt, url: "mqtt://127.0.0.1:${dead}", from: [warm] }
`,
    { stream: ", schema: { n: integer }" },
  );
  await publish({ count: 50, window: 50 }).done;
  await untilFigure(
    agent,
    'holdfast_sink_events_total{sink="archive",status="delivered"}',
    (value) => value === 40,
  );
  return agent;
}

test("/metrics has every name of the contract, and the figures of what went through", async (t) => {
  const agent = await startAgent(t);
  const text = await agent.metrics();
  for (const entry of contract) {
    const [, name = "", labels] = /^(\w+)(?:\{(.*)\})?$/.exec(entry) ?? [];
    assert.match(text, new RegExp(`^# TYPE ${name} `, "m"), entry);
    const declared: Readonly<Record<string, { readonly labels: readonly string[] }>> = metricTable;
    if (labels !== undefined) assert.deepEqual(declared[name]?.labels, labels.split(","), entry);
  }
  const figures: Readonly<Record<string, number>> = {
    'stream_lag{stream="load",group="warm"}': 0,
    'stream_lag{stream="warm",group="archive"}': 0,
    'stream_lag{stream="warm",group="up"}': 40,
    'stream_messages_processed_total{stream="load",group="warm",status="success"}': 50,
    holdfast_journal_events: 90,
    'holdfast_source_events_total{source="in",status="accepted"}': 50,
    'holdfast_source_connected{source="in"}': 1,
    'holdfast_sink_connected{sink="archive"}': 1,
    'holdfast_sink_connected{sink="up"}': 0,
    holdfast_plane_connected: 1,
  };
  for (const [name, value] of Object.entries(figures)) {
    assert.equal(figure(text, name), value, name);
  }
  assert.ok((figure(text, 'holdfast_sink_oldest_unsent_seconds{sink="up"}') ?? 0) > 0);
  assert.ok((figure(text, "holdfast_journal_commits_total") ?? 0) > 0);
  const open = await fetch(`${agent.httpUrl}/metrics`, {
    headers: { accept: "application/openmetrics-text" },
  });
  assert.match(await open.text(), /# EOF\n$/);
});

test("/health and /ready tell a sink that is away, and that the rest is well", async (t) => {
  const agent = await startAgent(t);
  await untilPartIs(agent, "up", "degraded");
  const response = await fetch(`${agent.httpUrl}/health`);
  assert.equal(response.status, 200, "events are safe: nothing that a restart would mend");
  const health = (await response.json()) as Record<string, unknown> & {
    components: Record<string, { status: string; since: string; detail?: string }>;
  };
  assert.deepEqual([health["status"], health["device"]], ["degraded", "roof-7"]);
  assert.equal(typeof health["uptimeSeconds"], "number");
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  assert.equal(health["version"], version);
  for (const part of ["journal", "plane", "clock", "disk", "in", "warm", "archive"]) {
    assert.equal(health.components[part]?.status, "ok", part);
    assert.ok(!Number.isNaN(Date.parse(health.components[part]?.since ?? "")), part);
  }
  assert.match(health.components["up"]?.detail ?? "", /ECONNREFUSED/);
  assert.deepEqual(await (await fetch(`${agent.httpUrl}/ready`)).json(), { ready: true });
  assert.equal((await fetch(`${agent.httpUrl}/health`, { method: "DELETE" })).status, 405);
});

/** What a browser prints, and nothing that it keeps. */
async function browse(t: TestContext, args: readonly string[]): Promise<string> {
  requireProgram("chromium", "chromium");
  const profile = tempDir(t);
  const { stdout } = await promisify(execFile)(
    "chromium",
    [
      "--headless=new",
      // Continuous integration runs as root, where the sandbox cannot.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      `--user-data-dir=${profile}`,
      ...args,
    ],
    { timeout: 60_000, maxBuffer: 16 * 1024 * 1024 },
  );
  return stdout;
}

test("/ shows what is wrong in a real browser, on a phone's screen", async (t) => {
  const agent = await startAgent(t);
  await untilPartIs(agent, "up", "degraded");
  const dom = await browse(t, ["--dump-dom", `${agent.httpUrl}/`]);
  const text = dom
    .replaceAll(/<(script|style)[\s\S]*?<\/\1>/g, "")
    .replaceAll(/<[^>]*>/g, " ")
    .replaceAll(/\s+/g, " ");
  for (const words of ["roof-7", "degraded", "ECONNREFUSED", "archive", "journal"]) {
    assert.ok(text.toLowerCase().includes(words.toLowerCase()), `${words} is not in ${text}`);
  }
  assert.ok(text.indexOf("ECONNREFUSED") < text.indexOf("archive"), "what is wrong comes first");
  const shot = join(tempDir(t), "status.png");
  await browse(t, ["--window-size=390,844", `--screenshot=${shot}`, `${agent.httpUrl}/`]);
  assert.deepEqual(readFileSync(shot).subarray(1, 4).toString(), "PNG");
  // A blank page of that size is some 3 KB.
  assert.ok(statSync(shot).size > 10_000, `${statSync(shot).size} bytes`);
});

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { metricTable } from "../../src/core/metrics.ts";
import { watchEventLoop } from "../../src/host/event-loop.ts";
import { createMetrics, type MetricsBook } from "../../src/host/metrics.ts";

function opened(t: TestContext, onOverflow?: (metric: string) => void): MetricsBook {
  const eventLoop = watchEventLoop();
  t.after(() => eventLoop.stop());
  return createMetrics({ eventLoop, ...(onOverflow !== undefined && { onOverflow }) });
}

test("render() shows every metric of the table, and prom-client's process metrics", async (t) => {
  const { body, contentType } = await opened(t).render(undefined);
  assert.equal(contentType, "text/plain; version=0.0.4; charset=utf-8");
  for (const [name, row] of Object.entries(metricTable)) {
    assert.ok(body.includes(`# TYPE ${name} ${row.kind}\n`), name);
  }
  for (const name of [
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
  ]) {
    assert.match(body, new RegExp(`^${name} [\\d.e+]+$`, "m"));
  }
  assert.doesNotMatch(body, /nodejs_eventloop/, "one figure for the event loop is enough");
});

test("counter() gives the same series for the same labels", async (t) => {
  const metrics = opened(t);
  metrics.counter("holdfast_source_events_total", { source: "a", status: "accepted" }).add(3);
  metrics.counter("holdfast_source_events_total", { status: "accepted", source: "a" }).add();
  metrics.gauge("stream_lag", { stream: "readings", group: "cloud" }).set(7);
  metrics.histogram("stream_processing_seconds", { stream: "r", group: "g" }).observe(0.03);
  const { body } = await metrics.render(undefined);
  assert.match(body, /^holdfast_source_events_total\{source="a",status="accepted"\} 4$/m);
  assert.match(body, /^stream_lag\{stream="readings",group="cloud"\} 7$/m);
  assert.match(body, /^stream_processing_seconds_bucket\{le="0.025",stream="r",group="g"\} 0$/m);
  assert.match(body, /^stream_processing_seconds_bucket\{le="0.05",stream="r",group="g"\} 1$/m);
});

test("counter() shows its series at 0 before anything happened", async (t) => {
  const metrics = opened(t);
  metrics.counter("holdfast_sink_events_total", { sink: "cloud", status: "refused" });
  metrics.histogram("stream_processing_seconds", { stream: "r", group: "g" });
  const { body } = await metrics.render(undefined);
  assert.match(body, /^holdfast_sink_events_total\{sink="cloud",status="refused"\} 0$/m);
  assert.match(body, /^stream_processing_seconds_count\{stream="r",group="g"\} 0$/m);
  assert.match(body, /^holdfast_journal_commits_total 0$/m);
});

test("counter() has at most 1,000 series, and counts the rest as other", async (t) => {
  const overflowed: string[] = [];
  const metrics = opened(t, (metric) => overflowed.push(metric));
  for (let i = 0; i < 1500; i += 1) {
    metrics.counter("holdfast_source_events_total", { source: `s${i}`, status: "accepted" }).add();
  }
  const { body } = await metrics.render(undefined);
  const series = body.match(/^holdfast_source_events_total\{.*$/gm) ?? [];
  assert.equal(series.length, 1001);
  assert.ok(series.includes('holdfast_source_events_total{source="other",status="other"} 500'));
  assert.deepEqual(overflowed, ["holdfast_source_events_total"]);
});

test("render() answers in OpenMetrics where asked for, and in plain text afterwards as before", async (t) => {
  const metrics = opened(t);
  const before = (await metrics.render(undefined)).body.match(/^# TYPE.*$/gm);
  const accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
  const open = await metrics.render(accept);
  assert.match(open.contentType, /^application\/openmetrics-text; version=1\.0\.0/);
  assert.match(open.body, /^# TYPE holdfast_journal_commits counter$/m);
  assert.match(open.body, /^holdfast_journal_commits_total 0$/m);
  assert.ok(open.body.endsWith("\n# EOF\n"));
  assert.doesNotMatch(open.body, /\n\n/);
  const after = await metrics.render("text/plain;q=0.9,application/openmetrics-text;q=0.1");
  assert.match(after.contentType, /^text\/plain/);
  assert.deepEqual(after.body.match(/^# TYPE.*$/gm), before);
});

test("onScrape() runs before each scrape", async (t) => {
  const metrics = opened(t);
  let asked = 0;
  const gauge = metrics.gauge("holdfast_journal_events", {});
  metrics.onScrape(() => gauge.set((asked += 1)));
  await metrics.render(undefined);
  assert.match((await metrics.render(undefined)).body, /^holdfast_journal_events 2$/m);
});

test("takeLagSeconds() tells the longest stall once, maxSeconds() for ever", async (t) => {
  const eventLoop = watchEventLoop();
  t.after(() => eventLoop.stop());
  const breathe = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 60));
  await breathe();
  const end = performance.now() + 200;
  while (performance.now() < end);
  await breathe();
  assert.ok(eventLoop.maxSeconds() > 0.15, "a look at the health");
  const lagSeconds = eventLoop.takeLagSeconds();
  assert.ok(lagSeconds > 0.15, `the next scrape still sees it: ${lagSeconds}`);
  await breathe();
  assert.ok(eventLoop.takeLagSeconds() < lagSeconds);
  assert.ok(eventLoop.maxSeconds() > 0.15);
});

test("sample() gives what render() shows, by series, without what no fleet looks at", async (t) => {
  const metrics = opened(t);
  metrics.counter("holdfast_source_events_total", { source: 'a"b', status: "accepted" }).add(3);
  metrics.histogram("stream_processing_seconds", { stream: "r", group: "g" }).observe(0.03);
  metrics.gauge("holdfast_journal_bytes", {}).set(Number.NaN);
  let scrapes = 0;
  metrics.onScrape(() => scrapes++);
  const samples = await metrics.sample();
  assert.equal(scrapes, 1);
  const { body } = await metrics.render(undefined);
  const rendered = new Map(
    body
      .split("\n")
      .filter((line) => /^(holdfast|stream)_/.test(line))
      .map((line) => [
        line.slice(0, line.lastIndexOf(" ")),
        Number(line.slice(line.lastIndexOf(" "))),
      ]),
  );
  const ours = Object.entries(samples).filter(([name]) => /^(holdfast|stream)_/.test(name));
  assert.ok(ours.length > 30);
  for (const [name, value] of ours) {
    if (name.startsWith("holdfast_event_loop") || name.includes("disk_bytes_written")) continue;
    assert.equal(rendered.get(name), value, name);
  }
  assert.equal(samples["holdfast_journal_bytes"], undefined, "no number, no sample");
  assert.ok((samples["process_resident_memory_bytes"] ?? 0) > 0);
  assert.ok(Object.keys(samples).every((name) => !name.startsWith("nodejs_gc")));
});

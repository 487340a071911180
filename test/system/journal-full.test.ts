/** A journal that is full while its upstream is away: both policies say so, go on, and heal (invariant 5). */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Gap } from "../../src/journal/gaps.ts";
import type { ChildAgent } from "../support/child-agent.ts";
import { fedAgent } from "../support/fed-agent.ts";
import { figure, untilFigure, untilPartIs } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import type { Publisher } from "../support/publishing.ts";
import type { Subscriber } from "../support/subscriber.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { startUpstream } from "../support/upstream.ts";

/** Some four times what fits into 1 MiB, which is the least that may be configured. */
const count = 16_000;
const size = 300;
const window = 500;

interface Started {
  readonly agent: ChildAgent;
  readonly publisher: Publisher;
  /** Brings the upstream to life. */
  readonly upstream: () => Promise<Subscriber>;
}

async function startLoaded(t: TestContext, onFull: string): Promise<Started> {
  const folder = tempDir(t);
  const up = await freePort();
  const { agent, publish } = await fedAgent(
    t,
    folder,
    `
sinks:
  up: { type: mqtt, url: "mqtt://127.0.0.1:${up}", from: [load, _gaps], topic: "edge/{stream}" }
`,
    { agent: { journal: `  maxBytes: 1MiB\n  onFull: ${onFull}\n` } },
  );
  return {
    agent,
    publisher: publish({ count, window, size, noise: true }),
    upstream: () => startUpstream(t, folder, up),
  };
}

function numbersOf(subscriber: Subscriber): number[] {
  const events = subscriber.received.filter(({ topic }) => topic === "edge/load");
  return events.map(({ payload }) => (JSON.parse(payload) as { n: number }).n);
}

test("reject withholds acknowledgements when the journal is full, and all is delivered when the upstream comes", async (t) => {
  const { agent, publisher, upstream } = await startLoaded(t, "reject");
  const answer = await untilPartIs(agent, "journal", "degraded");
  assert.equal(answer.status, "degraded");
  assert.match(String(answer.components["journal"]?.detail), /full|room/i);
  await delay(500);
  const stoodAt = publisher.acknowledged();
  await delay(1_500);
  assert.equal(publisher.acknowledged(), stoodAt, "nothing is acknowledged any more");
  assert.ok(stoodAt > 1_000 && stoodAt < count, String(stoodAt));
  assert.ok((figure(await agent.metrics(), "holdfast_journal_bytes") ?? Infinity) <= 1024 * 1024);

  const subscriber = await upstream();
  assert.equal(await publisher.done, count);
  await until("all upstream", () => new Set(numbersOf(subscriber)).size === count, 60_000);
  await untilPartIs(agent, "journal", "ok");
  assert.equal((await agent.health()).status, "ok");
  assert.doesNotMatch(await agent.metrics(), /^holdfast_journal_dropped_total\{.*\} [1-9]/m);
  t.diagnostic(`acknowledged ${stoodAt} of ${count} before it was full`);
});

test("drop-oldest takes everything in, and tells what it dropped in _gaps, the metric and the health", async (t) => {
  const { agent, publisher, upstream } = await startLoaded(t, "drop-oldest");
  assert.equal(await publisher.done, count, "the sender is never held up");
  const dropped = async (): Promise<number> =>
    [
      ...(await agent.metrics()).matchAll(
        /^holdfast_journal_dropped_total\{stream="load",.*\} (\d+)$/gm,
      ),
    ].reduce((sum, match) => sum + Number(match[1]), 0);
  await until("drops to be counted", async () => (await dropped()) > 0);
  const { journal } = (await agent.health()).components;
  assert.ok(Number(journal?.["dropped"]) > 0, "health shows what is lost");
  assert.match(agent.output(), /"level":"warn"[^\n]*lost \d+ events to quota/, "and the log");
  assert.ok((figure(await agent.metrics(), "holdfast_journal_bytes") ?? Infinity) <= 1024 * 1024);

  const subscriber = await upstream();
  await untilFigure(agent, 'stream_lag{stream="load",group="up"}', (value) => value === 0);
  const total = await dropped();
  const gaps = (): Gap[] =>
    subscriber.received
      .filter(({ topic }) => topic === "edge/_gaps")
      .map(({ payload }) => JSON.parse(payload) as Gap);
  // A gap is sealed 10 s after its last drop.
  const told = (): number =>
    gaps().reduce((sum, { from, to, kept }) => sum + (to - from + 1 - kept), 0);
  await until("the gaps upstream", () => told() >= total, 30_000);
  assert.equal(told(), total, "the metric and _gaps tell the same");
  const missing = new Set(Array.from({ length: count }, (_, n) => n));
  for (const n of numbersOf(subscriber)) missing.delete(n);
  const named = new Set<number>();
  for (const { stream, from, to, reason } of gaps()) {
    assert.equal(stream, "load");
    assert.match(reason, /\S/);
    // Message n is event n + 1.
    for (let seq = from; seq <= to; seq++) named.add(seq - 1);
  }
  assert.deepEqual(
    [...missing].filter((n) => !named.has(n)),
    [],
    "what is missing is named",
  );
  assert.equal(missing.size, total, "what is told is missing, and nothing else");
  const { status, components } = await agent.health();
  assert.equal(status, "degraded", "for some minutes more, for who comes to look");
  assert.match(String(components["journal"]?.detail), /load \d+ \(quota\).*journal\.maxBytes/);
  t.diagnostic(`${total} of ${count} dropped, in ${gaps().length} gaps`);
});

/** kill -9 of the agent and of the server it delivers to, in turn and under load: each event is there exactly once. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { range } from "../support/archive-names.ts";
import { childAgent } from "../support/child-agent.ts";
import { untilFigure } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { startRedis } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { entriesIn, seqOf, type Entry } from "../support/valkey-far-side.ts";

interface Plan {
  readonly order: "strict" | "live-first";
  readonly count: number;
  readonly rate: number;
  readonly rounds: number;
  /** How long the server is away, at least: long enough for a backlog that fresh events go before, or not. */
  readonly awayMs: number;
  /** Planted: what the server notes beside the streams is gone after each kill of the agent. */
  readonly forgets?: true;
}

const plans: readonly Plan[] = [
  { order: "strict", count: 20_000, rate: 4_000, rounds: 4, awayMs: 300 },
  { order: "live-first", count: 24_000, rate: 1_000, rounds: 2, awayMs: 6_500 },
];

/** What the server has in the end, in its order, and the newest seq of the journal. */
async function killRun(t: TestContext, plan: Plan): Promise<{ entries: Entry[]; head: number }> {
  const { order, count, rate, rounds, awayMs, forgets } = plan;
  const folder = tempDir(t);
  const server = await startRedis(folder, { durable: true });
  t.after(() => server.kill());
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
device: { id: box }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms }
sinks:
  cloud: { type: valkey, url: "${server.url}", from: [load], order: ${order} }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  const url = `mqtt://127.0.0.1:${port}`;
  const load = { url, topic: "load/d1", count, rate, qos: 1, window: 500 } as const;
  const publisher = startPublisher({ ...load, resilient: true });
  t.after(() => publisher.end());
  await until("the load to run", () => publisher.acknowledged() > 500);
  for (let round = 0; round < rounds; round++) {
    await delay(Math.random() * 700);
    await server.kill();
    await delay(awayMs * (1 + Math.random()));
    await server.start();
    await delay(Math.random() * 700);
    await agent.kill();
    if (forgets) server.cli("DEL", ...server.cli("KEYS", "*:holdfast:*").split("\n"));
    await agent.start();
  }
  assert.equal(await publisher.done, count);
  const lag = 'stream_lag{stream="load",group="cloud"}';
  await untilFigure(agent, lag, (value) => value === 0, 60_000);
  const { streams } = (await (await fetch(`${agent.adminUrl}/streams`)).json()) as {
    streams: { name: string; head: number }[];
  };
  const head = streams.find(({ name }) => name === "load")?.head ?? 0;
  assert.ok(head >= count);
  return { entries: entriesIn(server, "box:load"), head };
}

const inOrder = (seqs: readonly number[]): number[] => seqs.toSorted((a, b) => a - b);

for (const plan of plans) {
  test(`the agent and its server, killed in turn, have each event once (order: ${plan.order})`, async (t) => {
    const { entries, head } = await killRun(t, plan);
    const lanes = Map.groupBy(entries, ({ isBackfill }) => isBackfill);
    const [live = [], backfill = []] = [false, true].map((lane) =>
      (lanes.get(lane) ?? []).map(({ name }) => seqOf(name)),
    );
    t.diagnostic(`${live.length} live, ${backfill.length} backfill`);
    assert.equal(backfill.length > 0, plan.order === "live-first");
    for (const lane of [live, backfill]) assert.deepEqual(lane, inOrder(lane));
    assert.deepEqual(inOrder(entries.map(({ name }) => seqOf(name))), range(1, head));
  });
}

test("the proof goes red when the server forgets what it was given", async (t) => {
  const plan = { order: "strict", count: 4_000, rate: 2_000, rounds: 1, awayMs: 300 } as const;
  const { entries } = await killRun(t, { ...plan, forgets: true });
  const names = new Set(entries.map(({ name }) => name));
  t.diagnostic(`${entries.length - names.size} of ${names.size} are there again`);
  assert.ok(entries.length > names.size);
});

/**
 * kill -9 of a real agent whose processors remember: dedupe, windows, an alert and a handler with state, under load. In
 * the end what came out is held against a plain computation over what is in the input stream, event by event: once each.
 * What the publisher sends again after a kill (QoS 1) is in the input twice, and dedupe takes it out.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { until } from "../support/until.ts";
import { seeded } from "./kills.ts";

export interface ProcessingPlan {
  readonly folder: string;
  readonly kills: number;
  readonly count: number;
  readonly rate: number;
  readonly seed: number;
  /** Planted, the agent's: it dies once between the state of a unit of work and its cursor and output. */
  readonly fault?: "split-units";
}

export interface ProcessingReport {
  readonly kills: number;
  readonly seconds: number;
  readonly events: number;
  /** Sent again by the publisher. */
  readonly repeats: number;
  readonly windows: number;
  readonly alarms: number;
  readonly counted: number;
  /** What differs from the reference, the first twenty. */
  readonly wrong: readonly string[];
}

const handler = `
export default async (event, context) => {
  const { n, k } = event.payload;
  const count = ((await context.state.get(k)) ?? 0) + 1;
  context.state.put(k, count);
  return { n, k, count };
};
`;

const windowMs = 1_000;
const latenessMs = 2_000;

function configuration(folder: string, port: number): string {
  const prepare = `
      - dedupe: { by: n, within: 1h, keys: 100000 }
      - map: 'merge(payload, {"k": string(int(payload.n) % 5)})'`;
  return `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms }
processors:
  figures:
    from: load
    steps:${prepare}
      - window: { tumbling: 1s, lateness: 2s, by: k, aggregate: { sum: sum(n), top: max(n) } }
    to: figures
    batch: { max: 100, wait: 20ms }
  heat:
    from: load
    steps:${prepare}
      - alert: { field: temperature, by: device, above: 30, clear: 20 }
    to: alarms
    batch: { max: 70, wait: 10ms }
  counts:
    from: load
    steps:${prepare}
    handler: ./handlers/handler.mjs
    to: counts
    batch: { max: 130, wait: 30ms }
sinks:
  archive: { type: file, path: ${join(folder, "archive")}, from: [figures, alarms, counts, load-late] }
`;
}

interface Given {
  readonly n: number;
  readonly k: string;
  readonly temperature: number;
  readonly time: number;
}

export async function processingRun(plan: ProcessingPlan): Promise<ProcessingReport> {
  const began = performance.now();
  const { folder } = plan;
  const random = seeded(plan.seed);
  mkdirSync(join(folder, "handlers"), { recursive: true });
  writeFileSync(join(folder, "handlers", "handler.mjs"), handler);
  const port = await freePort();
  const { fault } = plan;
  const faulty = fault && { program: ["test/support/faulty-agent.ts", fault] };
  const agent = await childAgent(folder, configuration(folder, port), faulty);
  const publisher = await startedPublisher(agent, plan, port);
  try {
    if (fault !== undefined) {
      await until("the planted death", () => existsSync(`${agent.configFile}.died`));
      await agent.kill();
      await agent.start();
    }
    for (let kill = 0; kill < plan.kills; kill++) {
      await delay(50 + random() * 600);
      await agent.kill();
      await agent.start();
    }
    await publisher.done;
    await untilSilent(agent);
    const all = await givenTo(agent);
    await agent.stop();
    const seen = new Set<number>();
    const given = all.filter(({ n }) => !seen.has(n) && seen.add(n));
    const outputs = readOutputs(join(folder, "archive"));
    return {
      kills: plan.kills,
      seconds: (performance.now() - began) / 1000,
      events: all.length,
      repeats: all.length - given.length,
      windows: outputs.figures.length,
      alarms: outputs.alarms.length,
      counted: outputs.counts.length,
      wrong: judge(given, outputs).slice(0, 20),
    };
  } finally {
    writeFileSync(join(folder, "agent.log"), agent.output());
    await publisher.end();
    await agent.kill();
  }
}

async function startedPublisher(agent: ChildAgent, plan: ProcessingPlan, port: number) {
  await agent.start();
  const { count, rate } = plan;
  const url = `mqtt://127.0.0.1:${port}`;
  const about = { topic: "load/d1", qos: 1, window: 200, resilient: true } as const;
  return startPublisher({ url, count, rate, ...about });
}

/** Everything is processed, delivered, and the windows that silence closes are closed. */
async function untilSilent(agent: ChildAgent): Promise<void> {
  let [before, sinceMs] = ["", performance.now()];
  await until(
    "the agent to be done",
    async () => {
      await delay(200);
      const metrics = await agent.metrics();
      const lags = metrics.match(/^stream_lag\{.*\} \d+$/gm) ?? [];
      const now = `${metrics.match(/^holdfast_journal_events .*$/m)?.[0]} ${lags.join()}`;
      const isPassed = lags.length > 0 && lags.every((line) => line.endsWith(" 0"));
      if (!isPassed || now !== before) [before, sinceMs] = [now, performance.now()];
      return performance.now() - sinceMs > windowMs + latenessMs + 2_000;
    },
    300_000,
  );
}

/** The input as it lies in the journal. */
async function givenTo(agent: ChildAgent): Promise<Given[]> {
  const given: Given[] = [];
  for (let from = 1; ;) {
    const url = `${agent.adminUrl}/streams/load/events?from=${from}&limit=100000`;
    const lines = (await (await fetch(url)).text()).split("\n").filter((line) => line !== "");
    for (const line of lines) {
      const event = JSON.parse(line) as { seq: number; time: string; payload: Given };
      const { n, temperature } = event.payload;
      given.push({ n, k: String(n % 5), temperature, time: Date.parse(event.time) });
      from = event.seq + 1;
    }
    if (lines.length === 0) return given;
  }
}

type Payloads = readonly Readonly<Record<string, unknown>>[];

function readOutputs(archive: string): Record<"figures" | "alarms" | "counts" | "late", Payloads> {
  const of = (stream: string): Payloads =>
    readArchive(archive, stream).map(({ payload }) => payload);
  return {
    figures: of("figures"),
    alarms: of("alarms"),
    counts: of("counts"),
    late: of("load-late"),
  };
}

/** The reference: the whole input at once, the plain way. */
function judge(given: readonly Given[], outputs: ReturnType<typeof readOutputs>): string[] {
  const windows = new Map<string, { count: number; sum: number; top: number }>();
  const alarms: { state: string; value: number }[] = [];
  const counts: { n: number; k: string; count: number }[] = [];
  const perKey = new Map<string, number>();
  let isFiring = false;
  for (const { n, k, temperature, time } of given) {
    const name = `${Math.floor(time / windowMs) * windowMs} ${k}`;
    const { count, sum, top } = windows.get(name) ?? { count: 0, sum: 0, top: 0 };
    windows.set(name, { count: count + 1, sum: sum + n, top: Math.max(top, n) });
    if (isFiring ? temperature <= 20 : temperature > 30) {
      isFiring = !isFiring;
      alarms.push({ state: isFiring ? "firing" : "cleared", value: temperature });
    }
    perKey.set(k, (perKey.get(k) ?? 0) + 1);
    counts.push({ n, k, count: perKey.get(k) ?? 0 });
  }
  const byName = (list: readonly string[]): string[] => list.toSorted();
  const expected = [...windows].map(([name, each]) => JSON.stringify([name, each]));
  const found = outputs.figures.map(({ start, key, count, sum, top }) =>
    JSON.stringify([`${String(start)} ${String(key)}`, { count, sum, top }]),
  );
  return [
    ...differences("figures", byName(expected), byName(found)),
    ...differences(
      "alarms",
      alarms.map((each) => JSON.stringify(each)),
      outputs.alarms.map(({ state, value }) => JSON.stringify({ state, value })),
    ),
    ...differences(
      "counts",
      counts.map((each) => JSON.stringify(each)),
      outputs.counts.map(({ n, k, count }) => JSON.stringify({ n, k, count })),
    ),
    ...outputs.late.map((each) => `late: ${JSON.stringify(each)}`),
  ];
}

function differences(
  what: string,
  expected: readonly string[],
  found: readonly string[],
): string[] {
  const wrong: string[] = [];
  for (let index = 0; index < Math.max(expected.length, found.length); index++) {
    if (expected[index] === found[index]) continue;
    wrong.push(`${what} ${index}: ${found[index]}, not ${expected[index]}`);
    if (wrong.length >= 5) break;
  }
  return wrong;
}

/**
 * The agent beside Node-RED with the same chain, each between two topics of a mosquitto of its own, in turn on the same
 * machine: QoS 1 in and out, a session that outlives it, and results that are held against what they must be.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { childAgent } from "./child-agent.ts";
import { cpuSecondsOf } from "./cpu-seconds.ts";
import { endProcess } from "./end-process.ts";
import { requireProgram, startMosquitto, type Mosquitto } from "./mosquitto.ts";
import { chainFlow, delta, latenessMs, windowMs } from "./node-red-flow.ts";
import { installNodeRed, nodeRed, nodeRedVersion } from "./node-red.ts";
import { startPublisher } from "./publishing.ts";
import { readingOf } from "./reading.ts";
import { until } from "./until.ts";

const burst = 100_000;
const rounds = 3;
/** One after the other, as a busy site has them: what a message costs when it cannot share much. */
const steady = { count: 20_000, rate: 1_000 };
/** Long enough for a process to be gone and back while messages come. */
const killed = { count: 20_000, rate: 2_000 };
/** Nothing has come for so long after the last message: nothing will. */
const quietMs = 10_000;
const outTopic = "out";

interface Contender {
  start(): Promise<void>;
  kill(): Promise<void>;
  pid(): number;
}

type Make = (folder: string, broker: Mosquitto) => Promise<Contender>;

const contenders: Readonly<Record<string, Make>> = {
  holdfast: (folder, { url }) =>
    childAgent(
      folder,
      `
streams:
  readings: { key: device, time: ts, schema: { device: string, temperature: number?, ts: number } }
sources:
  load: { type: mqtt, url: "${url}", topics: [load/+], qos: 1, stream: readings }
processors:
  minutes:
    from: readings
    steps:
      - filter: has(payload.temperature)
      - deadband: { field: temperature, delta: ${delta} }
      - window:
          tumbling: ${windowMs}ms
          lateness: ${latenessMs}ms
          aggregate: { mean: avg(temperature), max: max(temperature) }
    to: minutes
sinks:
  out: { type: mqtt, url: "${url}", topic: ${outTopic}, qos: 1, from: [minutes] }
`,
    ),
  "Node-RED, its nodes": (folder, { port }) =>
    nodeRed(folder, chainFlow("its nodes", port, outTopic)),
  "Node-RED, one function": (folder, { port }) =>
    nodeRed(folder, chainFlow("one function", port, outTopic)),
};

interface Figures {
  readonly perSecond: number;
  readonly cpuMicros: number;
  readonly rssMiB: number;
}

export async function besideNodeRed(): Promise<void> {
  requireProgram("mosquitto_sub", "mosquitto-clients");
  installNodeRed();
  const figures = Object.keys(contenders).map((name) => ({ name, burst: [] as Figures[] }));
  for (let round = 0; round < rounds; round++) {
    for (const one of figures) one.burst.push(await within(one.name, (setup) => measured(setup)));
  }
  say(
    `\nThe chain with a schema, from MQTT to MQTT (QoS 1), beside Node-RED ${nodeRedVersion}: ${burst.toLocaleString("en")} readings at once, median of ${rounds} rounds in turn; ${steady.count.toLocaleString("en")} at ${steady.rate.toLocaleString("en")} a second; and a kill -9 amid ${killed.count.toLocaleString("en")}\n`,
  );
  say(
    "| what | events a second | CPU µs an event | RSS MiB, most | CPU µs an event at 1,000/s | after a kill: right | wrong | missing | sent again |",
  );
  say("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  let first: Figures | undefined;
  for (const { name, burst: each } of figures) {
    const middle = {
      perSecond: median(each.map(({ perSecond }) => perSecond)),
      cpuMicros: median(each.map(({ cpuMicros }) => cpuMicros)),
      rssMiB: median(each.map(({ rssMiB }) => rssMiB)),
    };
    const slow = await within(name, (setup) => measured(setup, steady.count, steady.rate));
    const { right, wrong, missing, again } = await within(name, afterKill);
    say(
      `| ${name} | ${Math.round(middle.perSecond).toLocaleString("en")} | ${middle.cpuMicros.toFixed(1)} | ${middle.rssMiB.toFixed(0)} | ${slow.cpuMicros.toFixed(1)} | ${right} | ${wrong} | ${missing} | ${again} |`,
    );
    if (first === undefined) first = middle;
    else {
      const rate = (first.perSecond / middle.perSecond).toFixed(2);
      const cpu = (first.cpuMicros / middle.cpuMicros).toFixed(2);
      say(
        `| holdfast to that | ${rate} | ${cpu} | ${(first.rssMiB / middle.rssMiB).toFixed(2)} | | | | | |`,
      );
    }
  }
}

interface Setup {
  readonly broker: Mosquitto;
  readonly contender: Contender;
  /** What has come out so far. */
  readonly results: () => readonly Result[];
}

async function within<T>(name: string, act: (setup: Setup) => Promise<T>): Promise<T> {
  const make = contenders[name];
  if (make === undefined) throw new Error(`No contender is called ${name}`);
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const broker = await startMosquitto(folder, "max_inflight_messages 2000\n");
  const own = join(folder, "contender");
  mkdirSync(own);
  const contender = await make(own, broker);
  const file = join(folder, "out");
  const output = openSync(file, "w");
  const flags = ["-p", String(broker.port), "-t", outTopic, "-q", "1", "-i", "results"];
  const subscriber = spawn("mosquitto_sub", flags, { stdio: ["ignore", output, "ignore"] });
  try {
    await contender.start();
    // Both have connected; what they subscribe to follows at once.
    await delay(1_000);
    const results = (): Result[] => {
      const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
      return lines.map((line) => JSON.parse(line) as Result);
    };
    return await act({ broker, contender, results });
  } finally {
    await contender.kill();
    await endProcess(subscriber, "SIGKILL");
    closeSync(output);
    await broker.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measured(
  { broker, contender, results }: Setup,
  count = burst,
  rate = 0,
): Promise<Figures> {
  const expected = expectedOf(count);
  const cpu = cpuSecondsOf(contender.pid());
  const began = performance.now();
  const load = { url: broker.url, topic: "load", qos: 1, window: 2000, readings: true } as const;
  const publisher = startPublisher({ ...load, count, rate });
  await publisher.done;
  await until("the results", () => results().length >= expected.size, 180_000);
  const seconds = (performance.now() - began) / 1000;
  const status = readFileSync(`/proc/${contender.pid()}/status`, "utf8");
  const figures = {
    perSecond: count / seconds,
    cpuMicros: ((cpuSecondsOf(contender.pid()) - cpu) * 1e6) / count,
    rssMiB: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024,
  };
  const { right } = compared(results(), expected);
  if (right !== expected.size) throw new Error(`${right} of ${expected.size} results are right`);
  return figures;
}

/** Kills it when half of the messages are at the broker, and starts it again. */
async function afterKill({ broker, contender, results }: Setup): Promise<Comparison> {
  const { count, rate } = killed;
  const load = { url: broker.url, topic: "load", qos: 1, window: 2000, readings: true } as const;
  const publisher = startPublisher({ ...load, count, rate });
  await until("half of the messages", () => publisher.acknowledged() >= count / 2);
  await contender.kill();
  await contender.start();
  await publisher.done;
  const expected = expectedOf(count);
  let [seen, sinceMs] = [0, performance.now()];
  await until(
    "all results, or silence",
    () => {
      const { length } = results();
      if (length !== seen) [seen, sinceMs] = [length, performance.now()];
      return (
        compared(results(), expected).right === expected.size ||
        performance.now() - sinceMs > quietMs
      );
    },
    120_000,
  );
  return compared(results(), expected);
}

interface Result {
  readonly start: number;
  readonly key: string;
  readonly count: number;
  readonly mean: number;
  readonly max: number;
}

/** The windows that are over when the first `count` readings were seen, computed at once. */
function expectedOf(count: number): ReadonlyMap<string, Result> {
  const last = new Map<string, number>();
  const values = new Map<string, number[]>();
  let newest = 0;
  for (let n = 0; n < count; n++) {
    const { device, temperature, ts } = readingOf(n);
    const before = last.get(device);
    if (before !== undefined && Math.abs(temperature - before) <= delta) continue;
    last.set(device, temperature);
    newest = ts;
    const name = nameOf({ start: Math.floor(ts / windowMs) * windowMs, key: device });
    values.set(name, [...(values.get(name) ?? []), temperature]);
  }
  const results = new Map<string, Result>();
  for (const [name, all] of values) {
    const [start, key] = JSON.parse(name) as [number, string];
    if (start + windowMs > newest - latenessMs) continue;
    const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
    results.set(name, { start, key, count: all.length, mean, max: Math.max(...all) });
  }
  return results;
}

function nameOf({ start, key }: Pick<Result, "start" | "key">): string {
  return JSON.stringify([start, key]);
}

interface Comparison {
  readonly right: number;
  readonly wrong: number;
  readonly missing: number;
  /** The same result more than once, as at least once delivery allows. */
  readonly again: number;
}

/** The first result of a window counts: who reads it has acted on it. */
function compared(results: readonly Result[], expected: ReadonlyMap<string, Result>): Comparison {
  const met = new Map<string, Result>();
  let [right, wrong, again] = [0, 0, 0];
  for (const result of results) {
    const name = nameOf(result);
    const wanted = expected.get(name);
    // A window that ends behind the last reading: the silence may close it.
    if (wanted === undefined) continue;
    if (met.has(name)) {
      again += 1;
      continue;
    }
    met.set(name, result);
    const isRight =
      result.count === wanted.count &&
      result.max === wanted.max &&
      Math.abs(result.mean - wanted.mean) < 1e-9;
    if (isRight) right += 1;
    else wrong += 1;
  }
  return { right, wrong, missing: expected.size - met.size, again };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

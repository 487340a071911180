/**
 * What processing costs: each kind of step, and a typical chain, by the batch processor alone (decoding, step, encoding,
 * what it remembers as a unit of work would carry it); then the chain in the whole loop, on a backlog in a real journal; then the agent beside Node-RED, both between two topics
 * of one broker.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { StoredEvent } from "../../src/core/event.ts";
import { createDerive } from "../../src/flow/derive.ts";
import { createProcessing } from "../../src/flow/process.ts";
import { createProjection } from "../../src/flow/project.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import { createChain } from "../../src/processor/chain.ts";
import { BatchProcessor, type Gate } from "../../src/processor/batch-processor.ts";
import { compileStream, streamOptions } from "../../src/schema/schema.ts";
import { besideNodeRed } from "../support/beside-node-red.ts";
import { settingsOf, type Written } from "../support/chain-run.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { openRules } from "../support/processing-line.ts";
import { readingOf, sensors } from "../support/reading.ts";
import { recordingContext } from "../support/recording-context.ts";
import { testEpoch } from "../support/stored-event.ts";

const batch = 500;
const batches = 200;
/** Of the backlog; a part of all. */
const commitEvents = 4_000;

const typical: readonly Written[] = [
  { filter: "has(payload.temperature)" },
  { deadband: { field: "temperature", delta: 0.2, atLeastEvery: "10m" } },
  {
    window: {
      tumbling: "1m",
      lateness: "10s",
      aggregate: { mean: "avg(temperature)", max: "max(temperature)" },
    },
  },
];

const lines: readonly (readonly [string, readonly Written[]])[] = [
  ["none", []],
  ["filter", [{ filter: "has(payload.temperature) && payload.temperature > 0" }]],
  ["map, two fields", [{ map: { d: "payload.device", f: "payload.temperature * 1.8 + 32" } }]],
  ["select", [{ select: ["device", "temperature"] }]],
  ["rename", [{ rename: { temperature: "t" } }]],
  ["scale", [{ scale: { field: "temperature", from: "C", to: "F", round: 1 } }]],
  ["deadband", [{ deadband: { field: "temperature", delta: 0.2 } }]],
  ["throttle", [{ throttle: { every: "5s" } }]],
  ["sample", [{ sample: { oneOf: 2 } }]],
  ["dedupe, all new", [{ dedupe: { by: "n", within: "1m" } }]],
  ["enrich", [{ enrich: { table: "sensors.csv", by: "device", column: "device" } }]],
  ["split", [{ split: { field: "list" } }]],
  ["flatten", [{ flatten: {} }]],
  ["alert", [{ alert: { field: "temperature", above: 25, clear: 24 } }]],
  ["join", [{ join: { stream: "other", as: "o" } }]],
  ["window, 1m, avg and max", typical.slice(2)],
  [
    "window, sliding 5m by 1m",
    [{ window: { sliding: { size: "5m", every: "1m" }, aggregate: { mean: "avg(temperature)" } } }],
  ],
  ["window, session", [{ window: { session: "30s", aggregate: { mean: "avg(temperature)" } } }]],
  ["window, 1m, p95", [{ window: { tumbling: "1m", aggregate: { p: "p95(temperature)" } } }]],
  [
    "window, 1m, timeWeightedAvg",
    [{ window: { tumbling: "1m", aggregate: { a: "timeWeightedAvg(temperature)" } } }],
  ],
  ["filter, deadband, window", typical],
];

function eventOf(n: number): StoredEvent {
  const reading = readingOf(n);
  const payload = Buffer.from(JSON.stringify(reading));
  const place = { stream: "in", seq: n + 1, epoch: testEpoch, clock: "synced" } as const;
  const { device, ts } = reading;
  return { ...place, key: device, time: ts, receivedAt: ts, headers: { topic: "t" }, payload };
}

/** CPU, µs for each event, and events a second. */
async function alone(steps: readonly Written[]): Promise<[cpuUs: number, rate: number]> {
  const context = recordingContext("proc");
  const { clock, log } = context;
  const chain = createChain(settingsOf(steps), {
    name: "proc",
    clock,
    log,
    baseDir: "test/processor/tables",
  });
  await chain.open();
  const processor = new BatchProcessor({
    name: "proc",
    log,
    clock,
    wallMs: () => clock.wallMs(),
    chain,
    to: "out",
    timeoutMs: 30_000,
    state: { get: () => Promise.resolve(null), list: () => Promise.resolve([]) },
    formatOf: () => "json",
    derive: createDerive(() => openRules(), clock),
  });
  const gate: Gate = { admit: () => "run", failed: () => "go-on" };
  const never = new AbortController().signal;
  let n = 0;
  const turn = async (): Promise<void> => {
    const items = Array.from({ length: batch }, () => ({ event: eventOf(n++), attempt: 1 }));
    const cpu = process.cpuUsage();
    const began = performance.now();
    await processor.run(items, gate, never);
    const { user, system } = process.cpuUsage(cpu);
    cpuUs += user + system;
    tookMs += performance.now() - began;
  };
  let [cpuUs, tookMs] = [0, 0];
  for (let warm = 0; warm < batches / 10; warm++) await turn();
  [cpuUs, tookMs] = [0, 0];
  for (let count = 0; count < batches; count++) await turn();
  const events = batch * batches;
  return [cpuUs / events, (events * 1000) / tookMs];
}

/** The whole loop on a backlog: journal, plane, processor, units of work. CPU of both threads. */
async function whole(
  folder: string,
  steps: readonly Written[],
): Promise<[cpuUs: number, rate: number]> {
  const events = batch * batches;
  const setup = journalSetup(join(folder, `${steps.length}.db`), {
    linger: 1000,
    maxBytes: 1 << 30,
  });
  const journal = createJournal(recordingContext("journal"), setup);
  await journal.open([{ group: "proc", streams: ["in"] }]);
  for (let first = 0; first < events; first += commitEvents) {
    await new Promise<void>((resolve) => {
      const last = first + commitEvents - 1;
      for (let n = first; n <= last; n++)
        journal.append("in", eventOf(n), n === last ? resolve : () => undefined);
      journal.commitSoon();
    });
  }
  const context = recordingContext("proc");
  const { clock, log } = context;
  const plane = new MemoryPlane({ clock });
  await plane.open();
  const projection = createProjection({ context, journal, plane, streams: ["in"] });
  const options = streamOptions.struct.create({
    key: "device",
    time: "ts",
    schema: { device: "string", temperature: "number?" },
  });
  const rules = compileStream("in", options);
  const processing = createProcessing({
    context,
    journal,
    plane,
    from: ["in"],
    to: "out",
    chain: createChain(settingsOf(steps), { name: "proc", clock, log, baseDir: "." }),
    rulesOf: (stream) => (stream === "in" ? rules : openRules()),
    batch: { max: batch, waitMs: 1000 },
    timeoutMs: 30_000,
    order: "key",
    stateBound: { maxKeys: 100_000, maxBytes: 1 << 26 },
    policy: { attempts: 5, baseMs: 1000, maxMs: 60_000, onFailure: "dead-letter" },
    onFatal: (error) => {
      throw error;
    },
  });
  const cpu = process.cpuUsage();
  const began = performance.now();
  projection.start();
  processing.start();
  while (journal.cursor("proc", "in").seq < events) await clock.sleep(5);
  const { user, system } = process.cpuUsage(cpu);
  const tookMs = performance.now() - began;
  await processing.stop(1000);
  await projection.stop();
  await plane.close();
  await journal.close();
  return [(user + system) / events, (events * 1000) / tookMs];
}

export async function run(): Promise<void> {
  const row = (name: string, [cpuUs, rate]: readonly [number, number]): void => {
    process.stdout.write(
      `| ${name} | ${cpuUs.toFixed(1)} | ${Math.round(rate).toLocaleString("en")} |\n`,
    );
  };
  process.stdout.write(
    `\n${(batch * batches).toLocaleString("en")} readings of ${sensors} sensors, batches of ${batch}\n\n`,
  );
  process.stdout.write(
    "| steps | CPU µs for each event | events a second |\n| --- | ---: | ---: |\n",
  );
  for (const [name, steps] of lines) row(name, await alone(steps));
  const folder = mkdtempSync(join("node_modules", "bench-processing-"));
  try {
    row("whole loop, no steps", await whole(folder, []));
    row("whole loop: filter, deadband, window", await whole(folder, typical));
  } finally {
    rmSync(folder, { recursive: true });
  }
  await besideNodeRed();
}

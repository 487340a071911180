/**
 * Four workers of one group as processes of their own, killed with SIGKILL again and again, and the server too: then
 * each event must have had its effects once.
 *
 * The events are emitted while that goes on, through the same kills of the server (`appendfsync always`: what it
 * answered is on its disk), so that emitting exactly once is tried as well.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { SqliteStore, Stream, ValkeyBackend } from "../../src/index.ts";
import { endProcess } from "../support/end-process.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { until } from "../support/until.ts";
import type { DeviceState, WorkerFault, WorkerPlan } from "../support/worker-child.ts";

export interface WorkersPlan {
  readonly folder: string;
  readonly store: "sqlite" | "valkey";
  readonly isOrdered: boolean;
  readonly events: number;
  readonly seed: number;
  readonly fault?: WorkerFault;
  /** So many kills of workers, spread over the emitting; left out: as many as fall while there is something to do. */
  readonly kills?: number;
  /** Between two kills at least and at most, ms; left out: 150 to 650. */
  readonly pausesMs?: readonly [number, number];
  /** How long it may take after the last event was emitted, ms. */
  readonly limitMs?: number;
}

export interface WorkersReport {
  readonly events: number;
  readonly emitted: number;
  /** Over all keys: of the state's counts and sums against the reference. */
  readonly missing: number;
  readonly doubled: number;
  readonly wrongSums: number;
  readonly disorder: number;
  readonly outMissing: number;
  readonly outDoubled: number;
  readonly deadLetters: number;
  readonly workerKills: number;
  readonly serverKills: number;
  /** Whether all was dealt with within the time. */
  readonly isDone: boolean;
  readonly seconds: number;
}

const keys = 50;
const workers = 4;
const [topic, outTopic, group] = ["readings", "seen", "totals"];

export async function workersRun(plan: WorkersPlan): Promise<WorkersReport> {
  const started = performance.now();
  const random = generator(plan.seed);
  const server = await startRedis(plan.folder, { durable: true });
  const child: WorkerPlan = {
    topic,
    outTopic,
    group,
    url: server.url,
    isOrdered: plan.isOrdered,
    state: plan.store === "valkey" ? "valkey" : `${plan.folder}/state.db`,
    ...(plan.fault !== undefined && { fault: plan.fault }),
  };
  const start = (): PoolWorker => startWorker(child, plan.folder);
  const pool = Array.from({ length: workers }, start);
  const kills = { worker: 0, server: 0 };
  const end = new AbortController();
  const most = plan.kills ?? Infinity;
  const pausesMs = plan.pausesMs ?? [150, 650];
  const killing = kill({ pool, server, start, random, kills, most, pausesMs }, end.signal);
  // What is fast is not done before it was killed often enough: each part waits for its share of them.
  const share = (part: number): boolean => kills.worker >= (plan.kills ?? 0) * part;
  const emitted = await emitAll(server.url, plan.events, share);
  const isDone = await dealtWith(server, plan.limitMs ?? 600_000);
  end.abort();
  await killing;
  await Promise.all(pool.map(({ child }) => endProcess(child, "SIGTERM")));
  const states = await readStates(plan, child);
  const seen = await readSeen(server.url);
  const deadLetters = Number(server.cli("XLEN", `${topic}-dlq`));
  await server.stop();
  return {
    events: plan.events,
    emitted,
    ...compare(plan.events, states),
    ...seenCounts(plan.events, seen),
    deadLetters,
    workerKills: kills.worker,
    serverKills: kills.server,
    isDone,
    seconds: (performance.now() - started) / 1000,
  };
}

export function isKept(report: WorkersReport, isOrdered: boolean): boolean {
  const { missing, doubled, wrongSums, outMissing, outDoubled, deadLetters } = report;
  const faults = missing + doubled + wrongSums + outMissing + outDoubled + deadLetters;
  return report.isDone && faults === 0 && (!isOrdered || report.disorder === 0);
}

async function emitAll(
  url: string,
  events: number,
  mayGoOn: (done: number) => boolean,
): Promise<number> {
  const backend = new ValkeyBackend({ url });
  await using stream = new Stream<{ device: string; n: number }>({ topic, backend });
  const partSize = 500;
  for (let at = 0; at < events; at += partSize) {
    await until("kills", () => mayGoOn(at / events));
    const length = Math.min(partSize, events - at);
    await stream.emit(Array.from({ length }, (_, index) => eventOf(at + index)));
  }
  return backend.length(topic);
}

function eventOf(n: number): { device: string; n: number } {
  return { device: `d${(n * 7919) % keys}`, n };
}

/**
 * Until the group has nothing left. Its `lag` is not asked: a server that loads its append-only file has forgotten how much
 * the group has read.
 */
async function dealtWith(server: RedisServer, limitMs: number): Promise<boolean> {
  const end = performance.now() + limitMs;
  const of = (name: string, ...words: string[]): string => {
    const said = server.cli("--raw", "XINFO", ...words).split("\n");
    return said[said.indexOf(name) + 1] ?? "";
  };
  while (performance.now() < end) {
    await delay(200);
    const isAtEnd =
      of("last-delivered-id", "GROUPS", topic) === of("last-generated-id", "STREAM", topic);
    if (isAtEnd && of("pending", "GROUPS", topic) === "0") return true;
  }
  return false;
}

interface PoolWorker {
  readonly child: ChildProcess;
  /** It has joined its group, or is gone. */
  readonly joined: Promise<unknown>;
}

interface Killing {
  readonly pool: PoolWorker[];
  readonly server: RedisServer;
  readonly start: () => PoolWorker;
  readonly random: () => number;
  readonly kills: { worker: number; server: number };
  readonly most: number;
  readonly pausesMs: readonly [number, number];
}

/** A worker after each pause, and about each twelfth time the server instead; one in ten while it is starting. */
async function kill(
  { pool, server, start, random, kills, most, pausesMs: [leastMs, mostMs] }: Killing,
  end: AbortSignal,
): Promise<void> {
  while (!end.aborted && kills.worker < most) {
    await delay(leastMs + random() * (mostMs - leastMs));
    if (end.aborted) return;
    if (random() < 1 / 12) {
      await server.kill();
      await server.start();
      kills.server += 1;
    } else {
      const at = Math.floor(random() * pool.length);
      const worker = pool[at];
      // Who is killed before it has joined has done nothing that a kill could spoil.
      if (random() > 0.1) await worker?.joined;
      if (worker !== undefined) await endProcess(worker.child, "SIGKILL");
      pool[at] = start();
      kills.worker += 1;
    }
  }
}

function startWorker(plan: WorkerPlan, folder: string): PoolWorker {
  const script = new URL("../support/worker-child.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, JSON.stringify(plan)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_COMPILE_CACHE: `${folder}/compiled` },
  });
  const said = child.stdout === null ? Promise.resolve() : once(child.stdout, "data");
  return { child, joined: Promise.race([said, once(child, "exit")]) };
}

async function readStates(plan: WorkersPlan, child: WorkerPlan): Promise<Map<string, DeviceState>> {
  const states = new Map<string, DeviceState>();
  const add = (device: string, bytes: Uint8Array | null): void => {
    if (bytes !== null) states.set(device, JSON.parse(String(Buffer.from(bytes))) as DeviceState);
  };
  const devices = Array.from({ length: keys }, (_, index) => `d${index}`);
  if (plan.store === "sqlite") {
    const store = new SqliteStore({ path: child.state });
    await store.open();
    for (const device of devices) add(device, await store.get(`${group}:${topic}`, device));
    await store.close();
  } else {
    const backend = new ValkeyBackend({ url: child.url });
    await backend.open();
    const member = await backend.join({ topic, group, from: "start", leaseMs: 1_000 });
    for (const device of devices) add(device, await member.readState("", device));
    await backend.close();
  }
  return states;
}

async function readSeen(url: string): Promise<Map<number, number>> {
  const backend = new ValkeyBackend({ url });
  await backend.open();
  const seen = new Map<number, number>();
  for (let from = "-"; ;) {
    const entries = await backend.range(outTopic, from, 10_000);
    for (const { fields } of entries) {
      const at = fields.findIndex((value, index) => index % 2 === 0 && String(value) === "n");
      const n = Number(String(fields[at + 1]));
      seen.set(n, (seen.get(n) ?? 0) + 1);
    }
    const last = entries.at(-1)?.id;
    if (last === undefined) break;
    from = `(${last}`;
  }
  await backend.close();
  return seen;
}

function compare(events: number, states: ReadonlyMap<string, DeviceState>) {
  const reference = new Map<string, { count: number; sum: number }>();
  for (let n = 0; n < events; n += 1) {
    const { device } = eventOf(n);
    const { count, sum } = reference.get(device) ?? { count: 0, sum: 0 };
    reference.set(device, { count: count + 1, sum: sum + n });
  }
  let [missing, doubled, wrongSums, disorder] = [0, 0, 0, 0];
  for (const [device, { count, sum }] of reference) {
    const found = states.get(device) ?? { count: 0, sum: 0, last: 0, disorder: 0 };
    missing += Math.max(0, count - found.count);
    doubled += Math.max(0, found.count - count);
    if (found.sum !== sum) wrongSums += 1;
    disorder += found.disorder;
  }
  return { missing, doubled, wrongSums, disorder };
}

function seenCounts(events: number, seen: ReadonlyMap<number, number>) {
  let [outMissing, outDoubled] = [0, 0];
  for (let n = 0; n < events; n += 1) {
    const count = seen.get(n) ?? 0;
    if (count === 0) outMissing += 1;
    outDoubled += Math.max(0, count - 1);
  }
  return { outMissing, outDoubled };
}

/** mulberry32: a seeded draw in [0, 1). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

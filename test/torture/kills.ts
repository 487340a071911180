/**
 * kill -9 of a real agent at random moments under load, again and again; then everything that was acknowledged
 * must be in the file sink.
 *
 * `through: "mosquitto"`: a publisher fills Debian's mosquitto at full speed and the agent takes from there; what
 * mosquitto handed over and the agent acknowledged is gone from mosquitto, so a lost acknowledged message shows
 * as a hole. `through: "broker"`: the publisher talks to the agent's embedded broker and resends (with the DUP
 * flag) what was not acknowledged when the connection broke.
 *
 * Every message carries a number `n`, 0 to count − 1, published in order.
 */
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Database from "better-sqlite3";
import { readArchive, type Envelope } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { freePort, startMosquitto, type Mosquitto } from "../support/mosquitto.ts";
import { startPublisher, type Publisher } from "../support/publishing.ts";
import { until } from "../support/until.ts";

export interface KillPlan {
  readonly folder: string;
  readonly through: "mosquitto" | "broker";
  readonly qos: 1 | 2;
  readonly kills: number;
  readonly count: number;
  readonly seed: number;
  /** Messages a second, so that the load lasts as long as the kills; 0: as fast as it goes, `aheadMax` apart. */
  readonly rate: number;
  /** Planted faults. `settle-before-commit`: the agent's; `forget-marks`: the sink's marks are gone after each kill. */
  readonly fault?: "settle-before-commit" | "forget-marks";
}

export interface KillReport {
  readonly published: number;
  readonly delivered: number;
  readonly missing: number;
  /** There twice without the `dup` header. */
  readonly unmarkedRepeats: number;
  readonly markedRepeats: number;
  readonly outOfOrder: number;
  /** Places where seq does not follow seq. */
  readonly gaps: number;
  readonly kills: number;
  readonly seconds: number;
}

/**
 * At full speed the publisher stays so far ahead of the agent at the most: mosquitto before 2.0.12 sends all that
 * waits in its queue at once and numbers it without looking, so that beyond 65,535 two messages share an identifier
 * and no receiver can do QoS 2 right (mqtt-receiver.ts).
 */
export const aheadMax = 30_000;

const lingerMs = 50;

/** Mulberry32: small, and the same numbers for the same seed everywhere. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export async function killRun(plan: KillPlan): Promise<KillReport> {
  const began = performance.now();
  const random = seeded(plan.seed);
  const archive = join(plan.folder, "archive");
  let broker: Mosquitto | undefined;
  let publisher: Publisher | undefined;
  let agent: ChildAgent | undefined;
  let following: Following | undefined;
  try {
    const port = await freePort();
    if (plan.through === "mosquitto") {
      broker = await startMosquitto(plan.folder, "max_inflight_messages 1000\n", port);
    }
    agent = await childAgent(plan.folder, configuration(plan, port, archive), {
      ...(plan.fault === "settle-before-commit" && {
        program: ["test/support/faulty-agent.ts", plan.fault],
      }),
    });
    await agent.start();
    if (broker !== undefined) await untilConnected(agent);
    publisher = startPublisher({
      url: `mqtt://127.0.0.1:${port}`,
      topic: "load/d1",
      count: plan.count,
      qos: plan.qos,
      window: 500,
      rate: plan.rate,
      ahead: plan.rate === 0 ? aheadMax : 0,
      resilient: true,
    });
    if (plan.rate === 0) following = follow(agent, publisher);
    for (let kill = 0; kill < plan.kills; kill++) {
      await delay(50 + random() * 600);
      await untilWritten(archive);
      // What a sink forgets shows between what it wrote and the cursor that says so.
      if (plan.fault !== "forget-marks") await delay(random() * lingerMs);
      await agent.kill();
      if (plan.fault === "forget-marks") forgetMarks(plan.folder);
      await agent.start();
    }
    const published = await publisher.done;
    await following?.stop();
    await untilQuiet(agent, plan);
    await agent.stop();
    const found = readArchive(archive, "load");
    const seconds = (performance.now() - began) / 1000;
    return { ...judge(found, plan.count), published, kills: plan.kills, seconds };
  } finally {
    if (agent !== undefined) writeFileSync(join(plan.folder, "agent.log"), agent.output());
    await following?.stop();
    await publisher?.end();
    await agent?.kill();
    await broker?.kill();
  }
}

/** The sink is writing: a kill now meets the load, however long the agent took to start. Else the load is over. */
async function untilWritten(archive: string): Promise<void> {
  const before = writtenBytes(archive);
  const end = performance.now() + 3_000;
  while (writtenBytes(archive) <= before && performance.now() < end) await delay(1);
}

function writtenBytes(archive: string): number {
  const folder = join(archive, "load");
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.reduce((sum, name) => {
    return sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0);
  }, 0);
}

interface Following {
  stop(): Promise<void>;
}

async function newestOf(agent: ChildAgent): Promise<string | undefined> {
  const answer = await fetch(`${agent.adminUrl}/streams/load/events?from=-1`);
  return (await answer.text()).match(/"n":(\d+)/)?.[1];
}

/** Tells the publisher how far the agent has come. */
function follow(agent: ChildAgent, publisher: Publisher): Following {
  const enough = new AbortController();
  const done = (async () => {
    while (!enough.signal.aborted) {
      await delay(20);
      const newest = await newestOf(agent).catch(() => undefined);
      if (newest !== undefined) publisher.taken(Number(newest) + 1);
    }
  })();
  return {
    stop() {
      enough.abort();
      return done;
    },
  };
}

/**
 * The sink has passed everything, all that was published is in the journal, and nothing more comes in for 1.5 s. Where
 * something is missing nothing comes for 30 s: at QoS 2 a broker may have tens of thousands of PUBRELs to repeat first.
 */
async function untilQuiet(agent: ChildAgent, plan: KillPlan): Promise<void> {
  const patienceMs = plan.fault === undefined ? 30_000 : 3_000;
  let [before, sinceMs] = ["", performance.now()];
  await until(
    "the agent to be done",
    async () => {
      await delay(100);
      const metrics = await agent.metrics();
      const events = /^holdfast_journal_events (\d+)$/m.exec(metrics)?.[1] ?? "";
      const isPassed = metrics.includes('stream_lag{stream="load",group="archive"} 0');
      if (events !== before || !isPassed) [before, sinceMs] = [events, performance.now()];
      const quietMs = performance.now() - sinceMs;
      return quietMs > (Number(events) >= plan.count ? 1_500 : patienceMs);
    },
    120_000,
  );
}

function forgetMarks(folder: string): void {
  const db = new Database(join(folder, "journal.db"));
  db.exec("UPDATE cursor SET mark = NULL");
  db.close();
}

type Verdict = Omit<KillReport, "published" | "kills" | "seconds">;

function judge(found: readonly Envelope[], count: number): Verdict {
  const seen = new Uint8Array(count);
  let [unmarkedRepeats, markedRepeats, outOfOrder, gaps] = [0, 0, 0, 0];
  let newest = -1;
  let seq = (found[0]?.seq ?? 1) - 1;
  for (const line of found) {
    const n = Number(line.payload["n"]);
    if (line.seq !== seq + 1) gaps++;
    seq = line.seq;
    if (seen[n] !== 0) {
      if (line.headers["dup"] === undefined) unmarkedRepeats++;
      else markedRepeats++;
      continue;
    }
    if (n < newest) outOfOrder++;
    newest = Math.max(newest, n);
    seen[n] = 1;
  }
  const delivered = seen.reduce((sum, one) => sum + one, 0);
  return {
    delivered,
    missing: count - delivered,
    unmarkedRepeats,
    markedRepeats,
    outOfOrder,
    gaps,
  };
}

function configuration(plan: KillPlan, port: number, archive: string): string {
  const source =
    plan.through === "mosquitto"
      ? `{ type: mqtt, url: "mqtt://127.0.0.1:${port}", topics: ["load/{device}"], qos: ${plan.qos}, stream: load }`
      : `{ type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }`;
  return `
sources:
  load: ${source}
streams:
  load: { linger: ${lingerMs}ms }
sinks:
  archive: { type: file, path: ${archive}, from: [load], maxFileBytes: 2MiB }
`;
}

async function untilConnected(agent: ChildAgent): Promise<void> {
  await until("the source to be connected", async () =>
    (await agent.metrics()).includes('holdfast_source_connected{source="load"} 1'),
  );
}

/**
 * The long runs: `npm run torture [-- NAME … --kills N --states N --events N --policy NAME,… --seed N]`. Each prints its seed, duration and counts, and
 * fails when a promise was broken.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { backlogRun } from "./backlog.ts";
import { armBootRun } from "./arm-boot.ts";
import { conditions, networksRun, type ConditionName } from "./networks.ts";
import { powerCutLives, powerCutRun } from "./power-cut.ts";
import { processingRun } from "./processing.ts";
import { isKept, workersRun } from "./workers.ts";
import { killRun, type KillPlan } from "./kills.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: "string", default: "100" },
    states: { type: "string", default: "20000" },
    events: { type: "string", default: "200000" },
    policy: { type: "string" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
  },
});

/** Of all states that many are asked for of each policy: a tenth of the images are equal to others. */
const powerCutShares = [
  ["upgrade", 0.1],
  ["thin", 0.16],
  ["drop-oldest", 0.16],
  ["compact", 0.12],
  ["reject", 0.68],
] as const;

/** Where a life is not to be of the usual length: a compaction makes thousands of calls. */
const powerCutLivesOf: Partial<Record<string, readonly number[]>> = {
  upgrade: [20, 20],
  compact: [140, 60],
};

/** A source's receive maximum, which is its window. */
const windowMax = 2_048;

/** Messages for each kill, about what passes at full speed between two of them on two cores. */
const fullSpeed = {
  mosquitto: { 1: 25_000, 2: 10_000 },
  broker: { 1: 15_000, 2: 8_000 },
} as const;

const runs: Record<string, () => Promise<boolean>> = {
  kills,
  "power-cut": powerCut,
  backlog,
  workers,
  processing,
  networks,
  "arm-boot": armBoot,
};
const chosen = positionals.length > 0 ? positionals : Object.keys(runs);
let passed = true;
for (const name of chosen) {
  const run = runs[name];
  if (run === undefined)
    throw new Error(`There is no run ${name}: there is ${Object.keys(runs).join(", ")}`);
  passed = (await run()) && passed;
}
process.exitCode = passed ? 0 : 1;

/** Disk images that a power cut could have left, each opened by the journal, each 25th by the whole agent. */
async function powerCut(): Promise<boolean> {
  const seed = Number(values.seed);
  let [good, tried] = [true, 0];
  for (const [policy, share] of powerCutShares) {
    if (values.policy !== undefined && !values.policy.split(",").includes(policy)) continue;
    const states = Math.ceil(Number(values.states) * share);
    const lives = powerCutLivesOf[policy] ?? powerCutLives;
    const report = await powerCutRun({ lives, policy, states, seed, agentEvery: 25 });
    const kept = report.broken.length === 0;
    process.stdout.write(
      `${JSON.stringify({ run: "power-cut", policy, seed, kept, ...report })}\n`,
    );
    good = good && kept;
    tried += report.states;
  }
  return good && (values.policy !== undefined || tried >= Number(values.states));
}

/** Ten million events of backlog. */
async function backlog(): Promise<boolean> {
  const report = await backlogRun(10_000_000);
  process.stdout.write(`${JSON.stringify({ run: "backlog", ...report })}\n`);
  return report.isKept;
}

/** Library workers and their server, killed: both stores, in order by key and not. */
async function workers(): Promise<boolean> {
  let good = true;
  for (const store of ["sqlite", "valkey"] as const) {
    for (const isOrdered of [false, true]) {
      const [seed, folder] = [
        Number(values.seed),
        mkdtempSync(join(tmpdir(), "holdfast-torture-")),
      ];
      // A process needs half a second to its first event: killed sooner, four of them do little else than start.
      const pausesMs = [300, 1_700] as const;
      const plan = { folder, store, isOrdered, seed, events: Number(values.events), pausesMs };
      const report = await workersRun(plan);
      const kept = isKept(report, isOrdered);
      process.stdout.write(
        `${JSON.stringify({ run: "workers", seed, store, isOrdered, kept, ...report })}\n`,
      );
      if (kept) rmSync(folder, { recursive: true, force: true });
      else process.stdout.write(`  what is left of it: ${folder}\n`);
      good = good && kept;
    }
  }
  return good;
}

/** Processors that remember, killed under load; 1,500 events a kill, about what passes between two of them. */
async function processing(): Promise<boolean> {
  const [seed, count] = [Number(values.seed), Number(values.kills)];
  const folder = mkdtempSync(join(tmpdir(), "holdfast-torture-"));
  const plan = { folder, kills: count, count: count * 1_500, rate: 1_500, seed };
  const report = await processingRun(plan);
  const kept = report.wrong.length === 0 && report.events >= plan.count;
  process.stdout.write(`${JSON.stringify({ run: "processing", seed, kept, ...report })}\n`);
  if (kept) rmSync(folder, { recursive: true, force: true });
  else process.stdout.write(`  what is left of it: ${folder}\n`);
  return kept;
}

/** The arm64 package in a booted Debian of its own; `npm run build:release` has made it. */
async function armBoot(): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-torture-"));
  const report = await armBootRun(folder);
  process.stdout.write(`${JSON.stringify({ run: "arm-boot", kept: true, ...report })}\n`);
  rmSync(folder, { recursive: true });
  return true;
}

/** The whole agent with a sink of each kind, 45 s of each bad network and 10 minutes of a flapping one. */
async function networks(): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-torture-"));
  const names = Object.keys(conditions) as ConditionName[];
  const report = await networksRun({ folder, names, isLong: true, rate: 50 });
  const kept =
    report.wrong.length === 0 && report.conditions.every(({ untrue: { length } }) => length === 0);
  process.stdout.write(`${JSON.stringify({ run: "networks", kept, ...report })}\n`);
  if (kept) rmSync(folder, { recursive: true, force: true });
  else process.stdout.write(`  what is left of it: ${folder}\n`);
  return kept;
}

/** kill -9 under load, through mosquitto and the embedded broker, at QoS 1 and 2, paced and as fast as it goes. */
async function kills(): Promise<boolean> {
  let good = true;
  for (const through of ["mosquitto", "broker"] as const) {
    for (const qos of [1, 2] as const) {
      // A kill and a restart take about 1.2 s here; the load must last as long.
      good = (await killed(through, qos, 5_000, 5_000)) && good;
      good = (await killed(through, qos, 0, fullSpeed[through][qos])) && good;
    }
  }
  return good;
}

async function killed(
  through: KillPlan["through"],
  qos: KillPlan["qos"],
  rate: number,
  each: number,
): Promise<boolean> {
  const [seed, count] = [Number(values.seed), Number(values.kills)];
  const folder = mkdtempSync(join(tmpdir(), "holdfast-torture-"));
  const plan = { folder, through, qos, kills: count, count: count * each, seed, rate };
  const report = await killRun(plan);
  const allowed = through === "mosquitto" && qos === 2 ? 0 : count * windowMax;
  const kept =
    report.missing + report.gaps + report.outOfOrder + report.unmarkedRepeats === 0 &&
    report.markedRepeats <= allowed;
  process.stdout.write(
    `${JSON.stringify({ run: "kills", seed, through, qos, rate, kept, ...report })}\n`,
  );
  if (kept) rmSync(folder, { recursive: true, force: true });
  else process.stdout.write(`  what is left of it: ${folder}\n`);
  return kept;
}

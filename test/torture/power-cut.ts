/**
 * What a power cut can leave, at each moment of the journal's life, and whether it is opened with all that was
 * acknowledged.
 *
 * A real process works on a real journal under a recorder (disk-trace.ts): the folders are new, chunks are appended,
 * units of work committed, old chunks trimmed, dropped or thinned, the WAL checkpointed, the file closed in order and
 * the process killed, several lives in a row; or a file of format version 1 is migrated. Then at each call between two syncs the disk images are built that a cut could have left
 * there (disk-image.ts), and each is opened with the journal's own recovery, each 25th with the whole agent.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import type { DiskCall } from "./disk-trace.ts";
import { nestedFolder, traceDisk } from "./disk-trace.ts";
import { DiskModel, survivals, type Image } from "./disk-image.ts";
import { seeded } from "./kills.ts";
import type { PowerCutPolicy } from "../support/power-cut-payload.ts";
import { problemOfAgent, problemOfJournal, type Promised } from "./power-cut-verdict.ts";

export interface PowerCutPlan {
  /** Events of each life of the recorded process. */
  readonly lives: readonly number[];
  /** About how many states to try. */
  readonly states: number;
  readonly seed: number;
  /** One state in so many with the whole agent. */
  readonly agentEvery: number;
  /** How the journal gives way; left out: `reject`. */
  readonly policy?: PowerCutPolicy;
  /** The journal's planted fault. */
  readonly fault?: string;
  /** Ends at the first broken promise. */
  readonly stopsEarly?: boolean;
}

export interface PowerCutReport {
  readonly calls: number;
  /** Moments at which the power was cut. */
  readonly cuts: number;
  /** Images of one cut that differ from each other. */
  readonly states: number;
  readonly agents: number;
  /** How often the recorded process gave space back. */
  readonly compactions: number;
  /** The first of them, with the state's place. */
  readonly broken: readonly string[];
  readonly seconds: number;
}

/** Enough for some checkpoints of the WAL in each, at about 9 KiB an event. */
export const powerCutLives = [250, 250, 250, 100];

const survivalsEach = survivals(seeded(0)).length;

/** Kept of what was found; more of the same help nobody. */
const brokenMax = 20;
/** Images are built in memory where there is such a place: they need no disk. */
const scratch = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
/** States that are opened side by side: the machine's two cores. */
const lanes = 2;

interface State {
  readonly image: Image;
  readonly promised: Promised;
  /** The call after which the power was cut. */
  readonly cut: number;
  readonly place: string;
  readonly withAgent: boolean;
}

export async function powerCutRun(plan: PowerCutPlan): Promise<PowerCutReport> {
  const began = performance.now();
  const base = mkdtempSync(join(tmpdir(), "holdfast-cut-"));
  const shelf = mkdtempSync(join(scratch, "holdfast-cut-"));
  try {
    const before = plan.policy === "upgrade" ? oldJournal(base) : [];
    const calls = [...before, ...(await record(base, plan, before))];
    const states = statesOf(base, calls, plan, before.length);
    const counts = { cuts: 0, states: 0, agents: 0 };
    let cut = -1;
    const broken: string[] = [];
    const lane = async (number: number): Promise<void> => {
      for (let next = states.next(); next.done !== true; next = states.next()) {
        const state = next.value;
        counts.states++;
        if (state.cut !== cut) counts.cuts++;
        cut = state.cut;
        if (state.withAgent) counts.agents++;
        const problem = await problemOf(state, join(shelf, `${number}-${counts.states}`));
        if (problem === null) continue;
        if (broken.length < brokenMax) broken.push(`${state.place}: ${problem}`);
        if (plan.stopsEarly === true) return;
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
    const compactions = calls.filter(
      (call) => call.kind === "said" && call.line.startsWith("compacted"),
    ).length;
    return {
      calls: calls.length,
      ...counts,
      compactions,
      broken,
      seconds: (performance.now() - began) / 1000,
    };
  } finally {
    rmSync(base, { recursive: true, force: true });
    rmSync(traceOf(base), { force: true });
    rmSync(shelf, { recursive: true, force: true });
  }
}

function traceOf(base: string): string {
  return join(tmpdir(), `${basename(base)}.trace`);
}

/** Several lives in a row over one journal: ended in order, and killed. */
async function record(
  base: string,
  plan: PowerCutPlan,
  before: readonly DiskCall[],
): Promise<DiskCall[]> {
  const path = join(nestedFolder(base), "journal.db");
  const trace = traceOf(base);
  const existing = new Set(before.flatMap((call) => (call.kind === "create" ? [call.path] : [])));
  const calls: DiskCall[] = [];
  // A life that made the folders and was cut off before it synced any.
  const making = `require("node:fs").mkdirSync(${JSON.stringify(dirname(path))}, { recursive: true })`;
  if (before.length === 0) calls.push(...(await traceDisk(base, trace, ["-e", making], existing)));
  for (const [life, events] of plan.lives.entries()) {
    const isLast = life === plan.lives.length - 1;
    const end = isLast || life % 2 === 0 ? "close" : "die";
    const child = ["test/support/power-cut-child.ts", path, String(events), end];
    const all = [
      ...child,
      plan.policy ?? "reject",
      ...(plan.fault === undefined ? [] : [plan.fault]),
    ];
    for (const call of await traceDisk(base, trace, all, existing)) calls.push(call);
  }
  return calls;
}

/** Puts a file of format version 1 in the journal's place: certainly on the disk before the first life. */
function oldJournal(base: string): DiskCall[] {
  const folder = nestedFolder(base);
  const path = join(folder, "journal.db");
  const data = readFileSync("test/journal/formats/v1.db");
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, data);
  const folders = [dirname(folder), folder];
  return [
    ...folders.map((one): DiskCall => ({ kind: "mkdir", path: one })),
    { kind: "create", path },
    { kind: "write", path, at: 0, data },
    ...[path, folder, dirname(folder), base].map((one): DiskCall => ({ kind: "sync", path: one })),
  ];
}

/** Calls after which something is neither certainly on the disk nor certainly not. */
function cutsOf(base: string, calls: readonly DiskCall[], from: number): number[] {
  const model = new DiskModel(base);
  const cuts: number[] = [];
  for (const [index, call] of calls.entries()) {
    model.apply(call);
    if (index >= from && call.kind !== "said" && model.isOpen) cuts.push(index);
  }
  return cuts;
}

/** `from`: what comes before is on the disk. */
function* statesOf(
  base: string,
  calls: readonly DiskCall[],
  plan: PowerCutPlan,
  from: number,
): Generator<State> {
  const random = seeded(plan.seed);
  const cuts = new Set(chosen(cutsOf(base, calls, from), plan, random));
  const model = new DiskModel(base);
  let promised: Promised = {
    policy: plan.policy ?? "reject",
    epoch: null,
    settled: 0,
    passed: 0,
  };
  let count = 0;
  for (const [index, call] of calls.entries()) {
    model.apply(call);
    if (call.kind === "said") promised = heard(promised, call.line);
    if (!cuts.has(index)) continue;
    const seen = new Set<string>();
    for (const survival of survivals(random)) {
      const image = relative(model.image(survival), base);
      const digest = digestOf(image);
      if (seen.has(digest)) continue;
      seen.add(digest);
      count++;
      const place = `cut after call ${index} (${call.kind}), ${survival.name}`;
      const withAgent = count % plan.agentEvery === 0;
      yield { image, promised, cut: index, place, withAgent };
    }
  }
}

/** The first cuts all, since openings are where holes are; of the others as many as are asked for, evenly drawn. */
function chosen(cuts: readonly number[], plan: PowerCutPlan, random: () => number): number[] {
  const wanted = Math.ceil(plan.states / survivalsEach);
  const first = cuts.slice(0, Math.ceil(wanted / 4));
  const rest = cuts.slice(first.length);
  if (rest.length <= wanted) return [...cuts];
  // One out of each stretch: drawn one by one, a short run could have half of what it asked for.
  const stretch = rest.length / wanted;
  const drawn = Array.from({ length: wanted }, (_, nth) => Math.floor((nth + random()) * stretch));
  return [...first, ...drawn.map((index) => rest[index] ?? 0)];
}

function heard(promised: Promised, line: string): Promised {
  const [word = "", value = ""] = line.split(" ");
  if (word === "open") return { ...promised, epoch: promised.epoch ?? value };
  if (word === "settled") return { ...promised, settled: Number(value) };
  if (word === "passed") return { ...promised, passed: Number(value) };
  return promised;
}

function digestOf(image: Image): string {
  return [...image]
    .map(([path, data]) => `${path} ${data?.length} ${data === null ? "" : crc32(data)}`)
    .join("\n");
}

function relative(image: Image, base: string): Image {
  const folder = nestedFolder(base);
  return new Map(
    [...image]
      .filter(([path]) => path.startsWith(`${folder}/`))
      .map(([path, data]) => [path.slice(folder.length + 1), data]),
  );
}

async function problemOf(state: State, folder: string): Promise<string | null> {
  mkdirSync(folder, { recursive: true });
  for (const [name, data] of state.image) {
    if (data === null) mkdirSync(join(folder, name), { recursive: true });
    else {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), data);
    }
  }
  try {
    if (state.withAgent) return await problemOfAgent(folder, state.promised);
    return await problemOfJournal(folder, state.promised);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

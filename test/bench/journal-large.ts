/**
 * Whether size costs anything: a journal of 10,000,000 events and 2 GiB beside one of 1 MiB or with nothing in it.
 * - trim: what passes away, chunk by chunk, in transactions of 64 as a turn does it (retention.ts)
 * - start and memory: a process that opens it and reads 20,000 events
 *
 * It takes 3 GiB of disk and some minutes, most of them to fill the file: 500,000 commits of 20 events, which do not
 * compress.
 */
import { execFile } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { noHeaders, type NewEvent } from "../../src/core/event.ts";
import { Ledger } from "../../src/journal/ledger.ts";
import { Retention } from "../../src/journal/retention.ts";
import type { WorkerSetup } from "../../src/journal/protocol.ts";
import { openDatabase, type Db } from "../../src/journal/sqlite.ts";
import { appendGroup, benchJournal } from "../support/contenders.ts";

const runChild = promisify(execFile);
const all = 10_000_000;
const eachCommit = 20;
/** With key, times and lengths a record takes 215 bytes, which makes 2 GiB of ten million. */
const payloadBytes = 200;
/** 1 MiB of them. */
const few = 4_800;
const starts = 5;
const readEvents = 20_000;
/** As `npm start` bounds the agent. */
const flags = ["--max-semi-space-size=4", "--max-old-space-size=128"];

const noise = randomFillSync(Buffer.alloc(1 << 20));
const say = (line: string): boolean => process.stdout.write(`${line}\n`);
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const spread = (values: readonly number[], digits: number): string =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`;

function made(n: number): NewEvent {
  const at = 1_780_000_000_000 + n;
  const from = (n * 7919) % (noise.length - payloadBytes);
  const payload = noise.subarray(from, from + payloadBytes);
  return { key: `e${n % 8}`, time: at, receivedAt: at, headers: noHeaders, payload };
}

async function fill(path: string, count: number): Promise<void> {
  const journal = benchJournal(path, 1000, false);
  await journal.open([]);
  for (let n = 0; n < count; n += eachCommit) await appendGroup(journal, n, n + eachCommit, made);
  await journal.close();
}

/** What opening the file, and reading from it, costs a process. */
async function start(path: string): Promise<{ openMs: number; rssMiB: number }> {
  const program = ["test/support/backlog-child.ts", path, "0", String(readEvents)];
  const { stdout } = await runChild(process.execPath, [...flags, ...program]);
  const { openMs, rssKiB } = JSON.parse(stdout) as { openMs: number; rssKiB: number };
  return { openMs, rssMiB: rssKiB / 1024 };
}

/** A journal in which every chunk is older than it may be, and nobody is behind. */
class Aged {
  readonly #db: Db;
  readonly #ledger: Ledger;
  readonly #retention: Retention;

  constructor(path: string) {
    const maxBytes = 8 * 2 ** 30;
    this.#db = openDatabase({ path, synchronous: "FULL", maxBytes });
    this.#ledger = new Ledger(this.#db);
    this.#ledger.load([]);
    const setup: Partial<WorkerSetup> = { maxBytes, maxAgeMs: 0, streams: new Map() };
    this.#retention = new Retention(this.#db, this.#ledger, setup as WorkerSetup);
  }

  /** µs for each chunk of one turn's 64: without the commit, and with it. */
  trim(): [number, number] {
    const chunks = this.#chunks();
    const began = performance.now();
    this.#db.exec("BEGIN IMMEDIATE");
    this.#retention.enforceQuotas({ wallMs: Date.now() + 1000, monotonicMs: 0, clock: "synced" });
    const trimmed = performance.now();
    this.#db.exec("COMMIT");
    const ended = performance.now();
    this.#ledger.keep();
    const gone = chunks - this.#chunks();
    if (gone !== 64) throw new Error(`${gone} chunks went, not 64`);
    return [((trimmed - began) * 1000) / gone, ((ended - began) * 1000) / gone];
  }

  #chunks(): number {
    const { first = 0, head = 0 } = this.#ledger.known("s") ?? {};
    return (head - first + 1) / eachCommit;
  }

  close(): void {
    this.#db.close();
  }
}

/** In turns. The small file is begun anew when it is used up; the first turns of a file fill its cache and do not count. */
function trims(small: string, large: string): void {
  const rounds = 10;
  const turns = 3;
  const found = new Map([small, large].map((path) => [path, [[], []] as [number[], number[]]]));
  const big = new Aged(large);
  for (let round = 0; round < rounds; round++) {
    copyFileSync(small, `${small}-used`);
    const little = new Aged(`${small}-used`);
    for (let turn = 0; turn < turns; turn++) {
      for (const [path, journal] of [
        [small, little],
        [large, big],
      ] as const) {
        const figures = journal.trim();
        if (turn > 0) for (const [at, us] of figures.entries()) found.get(path)?.[at]?.push(us);
      }
    }
    little.close();
    rmSync(`${small}-used`);
  }
  big.close();
  for (const [at, what] of [
    "trim of a chunk, µs",
    "the same, its share of the fsync in it",
  ].entries()) {
    const [little, much] = [small, large].map((path) => found.get(path)?.[at] ?? []);
    say(`| ${what} | ${spread(little ?? [], 1)} | ${spread(much ?? [], 1)} |`);
  }
}

async function openings(none: string, large: string): Promise<void> {
  const found = new Map<string, { openMs: number[]; rssMiB: number[] }>();
  for (const path of [none, large]) found.set(path, { openMs: [], rssMiB: [] });
  for (let round = 0; round < starts; round++) {
    for (const [path, { openMs, rssMiB }] of found) {
      const opened = await start(path);
      openMs.push(opened.openMs);
      rssMiB.push(opened.rssMiB);
    }
  }
  const [little, much] = [...found.values()];
  say(`| opening, ms | ${spread(little?.openMs ?? [], 0)} | ${spread(much?.openMs ?? [], 0)} |`);
  say(
    `| RSS after ${readEvents.toLocaleString("en")} events, MiB | ${spread(little?.rssMiB ?? [], 1)} | ${spread(much?.rssMiB ?? [], 1)} |`,
  );
}

export async function run(): Promise<void> {
  const folder = mkdtempSync(join("/var/tmp", "holdfast-bench-"));
  const [small, large] = [join(folder, "small.db"), join(folder, "large.db")];
  try {
    await fill(small, few);
    const began = performance.now();
    await fill(large, all);
    const mebi = (path: string): string => (statSync(path).size / 2 ** 20).toFixed(1);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    say(
      `${all.toLocaleString("en")} events filled in ${seconds} s; median (least to most), in turns\n`,
    );
    say(`| | ${mebi(small)} MiB | ${mebi(large)} MiB, ${all.toLocaleString("en")} events |`);
    say("| --- | ---: | ---: |");
    await openings(small, large);
    trims(small, large);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

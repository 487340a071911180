/**
 * What the journal costs, beside the obvious way (a row for each event and a transaction for each group, with the
 * same fsync) and a plain file. The contenders take turns, round by round, so that what else the machine does hits
 * all alike: read the ratios, which are of one round; the figures are this machine's.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { NewEvent } from "../../src/core/event.ts";
import {
  benchJournal,
  journalContender,
  rawContender,
  rowsContender,
  type Contender,
} from "../support/contenders.ts";
import { reading } from "../support/telemetry.ts";

const rounds = 5;
/** Of one page: what a processor asks for, and what a sink does (flow/read-ahead.ts). */
const pages = [1_000, 2_048] as const;

interface Figures {
  readonly perSecond: number;
  readonly diskRatio: number;
}

const say = (line: string): boolean => process.stdout.write(`${line}\n`);
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const whole = (value: number): string => Math.round(value).toLocaleString("en");
const range = (values: readonly number[]): string =>
  `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;

function payloadBytes(count: number): number {
  let bytes = 0;
  for (let n = 0; n < count; n++) bytes += reading(n).payload.length;
  return bytes;
}

function diskBytes(): number {
  const io = readFileSync("/proc/self/io", "utf8");
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0);
}

async function measured(count: number, work: () => Promise<void>): Promise<Figures> {
  const [bytes, began] = [diskBytes(), performance.now()];
  await work();
  const seconds = (performance.now() - began) / 1000;
  const diskRatio = (diskBytes() - bytes) / payloadBytes(count);
  return { perSecond: count / seconds, diskRatio };
}

async function appendAll(contender: Contender, batch: number, count: number): Promise<void> {
  for (let n = 0; n < count; n += batch) await contender.append(n, Math.min(count, n + batch));
}

const kinds = {
  "journal: append": journalContender,
  "a row for each event, SQLite FULL": rowsContender,
  "a plain file, appended and synced": rawContender,
} as const;

/** Each group waits for its commit. In each round each contender begins a file of its own. */
async function appends(folder: string, batch: number, count: number): Promise<void> {
  const found = new Map<string, Figures[]>();
  for (let round = 0; round < rounds; round++) {
    for (const [index, [what, make]] of Object.entries(kinds).entries()) {
      const contender = await make(join(folder, `append-${batch}-${round}-${index}`));
      const figures = await measured(count, () => appendAll(contender, batch, count));
      found.set(what, [...(found.get(what) ?? []), figures]);
      await contender.close();
    }
  }
  const [ours = []] = found.values();
  for (const [what, figures] of found) {
    const ratios = figures.map(({ perSecond }, at) => (ours[at]?.perSecond ?? 0) / perSecond);
    const beside = figures === ours ? "|" : `${median(ratios).toFixed(2)} | ${range(ratios)}`;
    const [perSecond, disk] = [
      figures.map((one) => one.perSecond),
      figures.map((one) => one.diskRatio),
    ];
    say(
      `| ${batch} | ${what} | ${whole(median(perSecond))} | ${median(disk).toFixed(2)} | ${beside} |`,
    );
  }
}

/** A backlog is read through, by each in turn; one pass before those that count. */
async function reads(folder: string, batch: number, count: number): Promise<void> {
  const ours = await journalContender(join(folder, `read-${batch}.db`), false);
  const rows = rowsContender(join(folder, `read-rows-${batch}.db`), false);
  for (const contender of [ours, rows]) await appendAll(contender, batch, count);
  for (const page of pages) {
    const rates: [number[], number[]] = [[], []];
    for (let round = 0; round <= rounds; round++) {
      for (const [index, contender] of [ours, rows].entries()) {
        const { perSecond } = await measured(count, async () => {
          const read = await contender.readAll?.(page);
          if (read !== count) throw new Error(`${read} of ${count} events were read`);
        });
        if (round > 0) rates[index]?.push(perSecond);
      }
    }
    const ratios = rates[0].map((rate, round) => rate / (rates[1][round] ?? Number.NaN));
    const [mine, theirs] = rates.map((each) => whole(median(each)));
    say(
      `| ${batch} | ${page} | ${mine} | ${theirs} | ${median(ratios).toFixed(2)} | ${range(ratios)} |`,
    );
  }
  await ours.close();
  await rows.close();
}

/** As several sources do it at once: groups of 256 that do not wait for each other, as fast as there is room. */
async function saturated(path: string, count: number): Promise<number> {
  const journal = benchJournal(path);
  await journal.open([]);
  let wake: (() => void) | undefined;
  journal.onRoom(() => wake?.());
  // Made beforehand: making one costs more than appending it.
  const made = Array.from({ length: 32_768 }, (_, n) => reading(n));
  const { perSecond } = await measured(count, async () => {
    const { promise: all, resolve } = Promise.withResolvers<void>();
    let settled = 0;
    const told = (): void => {
      settled++;
      if (settled === count) resolve();
    };
    for (let n = 0; n < count; n++) {
      while (!journal.hasRoom()) await new Promise<void>((again) => (wake = again));
      journal.append("s", made[n % made.length] as NewEvent, told);
      if (n % 256 === 255) journal.commitSoon();
    }
    journal.commitSoon();
    await all;
  });
  await journal.close();
  return perSecond;
}

/** One after the other, each waiting for its acknowledgement: what a lone sensor sees at this linger. */
async function alone(path: string, lingerMs: number, count: number): Promise<number> {
  const journal = benchJournal(path, lingerMs);
  await journal.open([]);
  const began = performance.now();
  for (let n = 0; n < count; n++)
    await new Promise<void>((resolve) => journal.append("s", reading(n), resolve));
  const eachMs = (performance.now() - began) / count;
  await journal.close();
  return eachMs;
}

export async function run(): Promise<void> {
  // A disk: in a tmpfs an fsync costs nothing and nothing is written.
  const folder = mkdtempSync(join("/var/tmp", "holdfast-bench-"));
  try {
    const eachBytes = (payloadBytes(10_000) / 10_000).toFixed(0);
    say(
      `JSON of ${eachBytes} bytes from 8 devices; medians of ${rounds} rounds, contenders in turn`,
    );
    say("\nAppending, an fsync for each commit, each of which is waited for\n");
    say(
      "| events for each commit | what | events/s | bytes to disk for each of payload | journal to this | in the rounds |",
    );
    say("| ---: | --- | ---: | ---: | ---: | --- |");
    await appends(folder, 1, 2_000);
    await appends(folder, 20, 20_000);
    await appends(folder, 256, 100_000);
    await appends(folder, 1_024, 200_000);
    say("\nReading a backlog\n");
    say(
      "| events for each chunk | page | journal, events/s | rows, events/s | journal to rows | in the rounds |",
    );
    say("| ---: | ---: | ---: | ---: | ---: | --- |");
    await reads(folder, 1, 50_000);
    await reads(folder, 20, 200_000);
    await reads(folder, 256, 400_000);
    await reads(folder, 1_024, 400_000);
    say("");
    const full: string[] = [];
    for (let round = 0; round < rounds; round++)
      full.push(whole(await saturated(join(folder, `full-${round}.db`), 1_000_000)));
    say(`Saturated, groups of 256: ${full.join(" · ")} events/s`);
    for (const lingerMs of [0, 20]) {
      const eachMs = await alone(join(folder, `alone-${lingerMs}.db`), lingerMs, 200);
      say(
        `One after the other at linger ${lingerMs}ms: acknowledged after ${eachMs.toFixed(2)} ms on average`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * What the journal costs, beside the obvious way: a row for each event and a transaction for each batch, with the
 * same fsync. Read the ratios; the figures are this machine's.
 */
import Database from "better-sqlite3";
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "../support/journal-setup.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { recordingContext } from "../support/recording-context.ts";
import type { NewEvent } from "../../src/core/event.ts";
import { reading } from "../support/telemetry.ts";

interface Figures {
  readonly eventsPerSecond: number;
  readonly diskBytesPerByte: number;
}

function payloadBytes(count: number): number {
  let bytes = 0;
  for (let n = 0; n < count; n++) bytes += reading(n).payload.length;
  return bytes;
}

function diskBytes(): number {
  const io = readFileSync("/proc/self/io", "utf8");
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0);
}

async function measured(count: number, work: () => Promise<void> | void): Promise<Figures> {
  const [bytes, began] = [diskBytes(), performance.now()];
  await work();
  const seconds = (performance.now() - began) / 1000;
  return {
    eventsPerSecond: Math.round(count / seconds),
    diskBytesPerByte: Number(((diskBytes() - bytes) / payloadBytes(count)).toFixed(2)),
  };
}

async function appendAll(journal: Journal, count: number, batch: number): Promise<void> {
  for (let first = 0; first < count; first += batch) {
    const last = Math.min(count, first + batch) - 1;
    await new Promise<void>((resolve) => {
      for (let n = first; n < last; n++) journal.append("s", reading(n), () => undefined);
      journal.append("s", reading(last), resolve);
      journal.commitSoon();
    });
  }
}

async function readAll(journal: Journal, count: number): Promise<void> {
  for (let after = 0; after < count;) {
    const { events } = await journal.read("s", after, 1000, 1 << 20);
    after = events.at(-1)?.seq ?? count;
  }
}

function create(path: string, lingerMs: number): Journal {
  return createJournal(
    recordingContext("journal"),
    journalSetup(path, { linger: lingerMs, maxBytes: 1 << 30, onFull: "reject" }),
  );
}

async function ours(path: string, batch: number, count: number): Promise<[Figures, Figures]> {
  const journal = create(path, 1000);
  await journal.open([]);
  const append = await measured(count, () => appendAll(journal, count, batch));
  const read = await measured(count, () => readAll(journal, count));
  await journal.close();
  return [append, read];
}

async function rows(path: string, batch: number, count: number): Promise<Figures> {
  const db = new Database(path);
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = FULL");
  db.exec(
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, key TEXT, time REAL, headers TEXT, payload BLOB)",
  );
  const insert = db.prepare("INSERT INTO event (key, time, headers, payload) VALUES (?, ?, ?, ?)");
  const append = db.transaction((from: number, to: number) => {
    for (let n = from; n < to; n++) {
      const { key, time, headers, payload } = reading(n);
      insert.run(key, time, JSON.stringify(headers), payload);
    }
  });
  const figures = await measured(count, () => {
    for (let n = 0; n < count; n += batch) append(n, Math.min(count, n + batch));
  });
  db.close();
  return figures;
}

/** The floor: the payloads alone, appended to a file that is synced after each batch. */
function raw(path: string, batch: number, count: number): Promise<Figures> {
  const file = openSync(path, "w");
  return measured(count, () => {
    for (let n = 0; n < count; n += batch) {
      const size = Math.min(batch, count - n);
      writeSync(
        file,
        Buffer.concat(Array.from({ length: size }, (_, i) => reading(n + i).payload)),
      );
      fsyncSync(file);
    }
  }).finally(() => closeSync(file));
}

/** As several sources do it at once: groups of 256 that do not wait for each other, as fast as there is room. */
async function saturated(path: string, count: number): Promise<Figures> {
  const journal = create(path, 1000);
  await journal.open([]);
  let wake: (() => void) | undefined;
  journal.onRoom(() => wake?.());
  // Made beforehand: making one costs more than appending it.
  const made = Array.from({ length: 32_768 }, (_, n) => reading(n));
  const figures = await measured(count, async () => {
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
  return figures;
}

/** One after the other, each waiting for its acknowledgement: what a lone sensor sees at this linger. */
async function alone(path: string, lingerMs: number, count: number): Promise<number> {
  const journal = create(path, lingerMs);
  await journal.open([]);
  const began = performance.now();
  for (let n = 0; n < count; n++)
    await new Promise<void>((resolve) => journal.append("s", reading(n), resolve));
  const eachMs = (performance.now() - began) / count;
  await journal.close();
  return eachMs;
}

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const say = (line: string): boolean => process.stdout.write(`${line}\n`);
  try {
    say(
      `JSON of ${(payloadBytes(10_000) / 10_000).toFixed(0)} bytes from 8 devices, an fsync for each commit`,
    );
    say(
      "| events for each commit | what | events/s | bytes to disk for each of payload | journal to this |",
    );
    say("| ---: | --- | ---: | ---: | ---: |");
    for (const [batch, count] of [
      [1, 1_000],
      [20, 10_000],
      [256, 100_000],
      [1024, 200_000],
    ] as const) {
      const [append, read] = await ours(join(folder, `ours-${batch}.db`), batch, count);
      const line = (
        what: string,
        { eventsPerSecond, diskBytesPerByte }: Figures,
        beside: boolean,
      ): void => {
        const ratio = beside ? (append.eventsPerSecond / eventsPerSecond).toFixed(2) : "";
        say(
          `| ${batch} | ${what} | ${eventsPerSecond.toLocaleString("en")} | ${diskBytesPerByte} | ${ratio} |`,
        );
      };
      line("journal: append", append, false);
      line(
        "a row for each event, SQLite FULL",
        await rows(join(folder, `rows-${batch}.db`), batch, count),
        true,
      );
      line(
        "a plain file, appended and synced",
        await raw(join(folder, `raw-${batch}`), batch, count),
        true,
      );
      line("journal: read, pages of 1,000", read, false);
    }
    for (const run of [1, 2, 3]) {
      const { eventsPerSecond } = await saturated(join(folder, `full-${run}.db`), 1_000_000);
      say(`Saturated, groups of 256: ${eventsPerSecond.toLocaleString("en")} events/s`);
    }
    for (const lingerMs of [0, 20]) {
      const eachMs = await alone(join(folder, `alone-${lingerMs}.db`), lingerMs, 200);
      say(
        `One event after the other at linger ${lingerMs}ms: acknowledged after ${eachMs.toFixed(2)} ms on average`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

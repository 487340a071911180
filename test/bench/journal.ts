/**
 * What the journal costs, beside the obvious way: a row for each event and a transaction for each batch, with the
 * same fsync. Read the ratios; the figures are this machine's.
 */
import Database from "better-sqlite3";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewEvent } from "../../src/core/event.ts";
import { createJournal } from "../../src/journal/thread.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { recordingContext } from "../support/recording-context.ts";

interface Figures {
  readonly eventsPerSecond: number;
  readonly diskBytesPerByte: number;
}

const headers = { topic: "greenhouse/e1/env", device: "e1" };

/** 90 bytes of JSON, no two alike. */
function reading(n: number): NewEvent {
  const at = 1_780_000_000_000 + n;
  const temperature = (20 + Math.sin(n / 50) * 5).toFixed(2);
  const json = `{"device":"e1","ts":${at},"temperature":${temperature},"humidity":${40 + (n % 20)},"n":${n}}`;
  return { key: "e1", time: at, receivedAt: at, headers, payload: Buffer.from(json.padEnd(90)) };
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
    diskBytesPerByte: Number(((diskBytes() - bytes) / (count * 90)).toFixed(2)),
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

async function ours(path: string, batch: number, count: number): Promise<[Figures, Figures]> {
  const journal = createJournal(recordingContext("journal"), {
    settings: {
      path,
      durability: "power-loss",
      linger: 1000,
      maxBytes: 1 << 30,
      maxAge: 86_400_000,
      onFull: "reject",
    },
    path,
    device: "bench",
    board: null,
    streams: new Map(),
    onFatal: (error) => {
      throw error;
    },
  });
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
      const { key, time, payload } = reading(n);
      insert.run(key, time, JSON.stringify(headers), payload);
    }
  });
  const figures = await measured(count, () => {
    for (let n = 0; n < count; n += batch) append(n, Math.min(count, n + batch));
  });
  db.close();
  return figures;
}

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const say = (line: string): boolean => process.stdout.write(`${line}\n`);
  try {
    say(
      "journal, 90-byte JSON, fsync for each commit    events/s   bytes to disk for each of payload",
    );
    for (const [batch, count] of [
      [1, 1_000],
      [20, 10_000],
      [256, 100_000],
      [1024, 200_000],
    ] as const) {
      const [append, read] = await ours(join(folder, `ours-${batch}.db`), batch, count);
      const plain = await rows(join(folder, `rows-${batch}.db`), batch, count);
      const ratio = (append.eventsPerSecond / plain.eventsPerSecond).toFixed(1);
      const line = (
        name: string,
        { eventsPerSecond, diskBytesPerByte }: Figures,
        more = "",
      ): void => {
        say(
          `${name.padEnd(44)} ${String(eventsPerSecond).padStart(11)} ${String(diskBytesPerByte).padStart(11)}${more}`,
        );
      };
      line(`append, ${batch} for each commit`, append, `   ${ratio} times a row for each event`);
      line("  a row for each event", plain);
      line("  read", read);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) await run();

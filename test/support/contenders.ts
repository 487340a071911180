/**
 * Ways to keep events, beside which the journal is measured: each appends a group and has it on disk when that is
 * told. Only the journal can say where a reader stands, trim, and give back what a damage left.
 */
import Database from "better-sqlite3";
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import type { NewEvent } from "../../src/core/event.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { recordingContext } from "./recording-context.ts";
import { reading } from "./telemetry.ts";

export interface Contender {
  /** The readings from `from` to before `to`, made here, synced when this ends. */
  append(from: number, to: number): Promise<void> | void;
  /** All events in pages of so many; how many there were. Left out: it cannot be read back. */
  readAll?(page: number): Promise<number> | number;
  close(): Promise<void> | void;
}

/** Of a page, bytes, as the flows of the agent ask for them. */
const pageBytes = 1 << 20;

export function benchJournal(path: string, lingerMs = 1000, isSynced = true): Journal {
  const durability = isSynced ? "power-loss" : "crash";
  const settings = {
    durability,
    linger: lingerMs,
    maxBytes: 8 * 2 ** 30,
    onFull: "reject",
  } as const;
  return createJournal(recordingContext("journal"), journalSetup(path, settings));
}

/** `isSynced`: without, for a backlog that is only to be read. */
export async function journalContender(path: string, isSynced = true): Promise<Contender> {
  const journal = benchJournal(path, 1000, isSynced);
  await journal.open([]);
  return {
    append: (from, to) => appendGroup(journal, from, to, reading),
    async readAll(page) {
      const head = journal.status().streams.get("s")?.head ?? 0;
      let after = 0;
      while (after < head) {
        const { events } = await journal.read("s", after, page, pageBytes);
        after = events.at(-1)?.seq ?? Infinity;
      }
      return after;
    },
    close: () => journal.close(),
  };
}

/** One group, and its commit. */
export function appendGroup(
  journal: Journal,
  from: number,
  to: number,
  make: (n: number) => NewEvent,
): Promise<void> {
  return new Promise((resolve) => {
    for (let n = from; n < to - 1; n++) journal.append("s", make(n), () => undefined);
    journal.append("s", make(to - 1), resolve);
    journal.commitSoon();
  });
}

/** The obvious way: a row for each event and a transaction for each group, in the thread that asks. */
export function rowsContender(path: string, isSynced = true): Contender {
  const db = new Database(path);
  db.pragma("journal_mode = WAL");
  db.pragma(`synchronous = ${isSynced ? "FULL" : "NORMAL"}`);
  db.exec(
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, key TEXT, time REAL, headers TEXT, payload BLOB)",
  );
  const insert = db.prepare("INSERT INTO event (key, time, headers, payload) VALUES (?, ?, ?, ?)");
  const pageAfter = db.prepare("SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT ?");
  return {
    append: db.transaction((from: number, to: number): void => {
      for (let n = from; n < to; n++) {
        const { key, time, headers, payload } = reading(n);
        insert.run(key, time, JSON.stringify(headers), payload);
      }
    }),
    readAll(page) {
      for (let count = 0, after = 0; ;) {
        const rows = pageAfter.all(after, page) as { seq: number; headers: string }[];
        if (rows.length === 0) return count;
        count += rows.map((row) => ({
          ...row,
          headers: JSON.parse(row.headers) as unknown,
        })).length;
        after = rows.at(-1)?.seq ?? 0;
      }
    },
    close: () => void db.close(),
  };
}

/** The floor: the payloads alone, appended to a file that is synced after each group. */
export function rawContender(path: string): Contender {
  const file = openSync(path, "w");
  return {
    append(from, to) {
      const payloads = Array.from({ length: to - from }, (_, i) => reading(from + i).payload);
      writeSync(file, Buffer.concat(payloads));
      fsyncSync(file);
    },
    close: () => closeSync(file),
  };
}

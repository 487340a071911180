/**
 * In which epoch an event is. A chunk carries the one that it was written in and is never rewritten; where an upstream
 * turned out to hold other events under our names, a later epoch takes over what was not delivered there, from a
 * seq of each stream on: a row of `meta` for each such stream (`epoch-from ORDINAL STREAM`), which salvage and
 * compaction carry along. An older program that does not know them shows the chunk's own.
 *
 * Bound: an entry for each such stream and epoch; none where no history ever forked.
 */
import { randomUUID } from "node:crypto";
import type { EpochStart } from "./journal.ts";
import type { Db } from "./sqlite.ts";

export interface EpochRow {
  readonly ordinal: number;
  readonly uuid: string;
  readonly parent: string | null;
  readonly board: string | null;
}

interface Start {
  readonly ordinal: number;
  readonly from: number;
}

const prefix = "epoch-from";

export class Epochs {
  readonly #db: Db;
  readonly #starts = new Map<string, Start[]>();
  #ordinal: number;

  constructor(db: Db, ordinal: number) {
    this.#db = db;
    this.#ordinal = ordinal;
    const rows = db.prepare(`SELECT name, value FROM meta WHERE name LIKE '${prefix} %'`).all() as {
      name: string;
      value: string;
    }[];
    for (const { name, value } of rows) {
      const [, number = "", stream = ""] = /^\S+ (\d+) (.*)$/.exec(name) ?? [];
      this.#note(stream, { ordinal: Number(number), from: Number(value) });
    }
  }

  /** Of what is written now. */
  get ordinal(): number {
    return this.#ordinal;
  }

  /** The last row of the table. */
  last(): EpochRow | undefined {
    return this.#db.prepare("SELECT * FROM epoch ORDER BY ordinal DESC LIMIT 1").get() as
      | EpochRow
      | undefined;
  }

  /** Begins one in a transaction of its own: on disk when this returns. */
  begin({ from, reason }: EpochStart, wallMs: number): EpochRow {
    const last = this.last();
    const row: EpochRow = {
      ordinal: (last?.ordinal ?? 0) + 1,
      uuid: randomUUID(),
      parent: last?.uuid ?? null,
      board: last?.board ?? null,
    };
    const put = this.#db.prepare("INSERT INTO meta (name, value) VALUES (?, ?)");
    this.#db.transaction(() => {
      insertEpoch(this.#db, row, reason, wallMs);
      for (const [stream, seq] of from) put.run(`${prefix} ${row.ordinal} ${stream}`, String(seq));
    })();
    for (const [stream, seq] of from) this.#note(stream, { ordinal: row.ordinal, from: seq });
    this.#ordinal = row.ordinal;
    return row;
  }

  /**
   * From which seqs on, in ascending order, a chunk's events are in a later epoch than its own; null: in its own all.
   */
  later(stream: string, chunk: { ordinal: number; last: number }): readonly Start[] | null {
    const starts = this.#starts
      .get(stream)
      ?.filter(({ ordinal, from }) => ordinal > chunk.ordinal && from <= chunk.last);
    if (starts === undefined || starts.length === 0) return null;
    // Of two that both cover a seq the newer counts.
    return starts.filter(({ ordinal, from }) =>
      starts.every((other) => other.ordinal <= ordinal || other.from > from),
    );
  }

  #note(stream: string, start: Start): void {
    const all = [...(this.#starts.get(stream) ?? []), start];
    this.#starts.set(
      stream,
      all.toSorted((a, b) => a.from - b.from || a.ordinal - b.ordinal),
    );
  }
}

export function insertEpoch(db: Db, row: EpochRow, reason: string, wallMs: number): void {
  db.prepare("INSERT INTO epoch VALUES (@ordinal, @uuid, @parent, @reason, @began, @board)").run({
    ...row,
    reason,
    began: wallMs,
  });
}

/**
 * All rows of the large tables, in slices short enough to go between two turns. Each slice finds its place anew by
 * the key of the last row, so that turns may change what they like meanwhile.
 *
 * Bound: one slice is one row, or as many as `sliceRows` and about `sliceBytes` hold.
 */
import type { Db } from "./sqlite.ts";

const sliceRows = 256;
const sliceBytes = 1024 * 1024;

/** A row's values in the order of the table's columns; whole numbers are bigint. */
export type WalkedRow = readonly (string | number | bigint | Buffer | null)[];

/** Tables that grow with what is kept, with their keys, which are their first columns. */
export const largeTables = {
  chunk: ["id"],
  dead_letter: ["id"],
  sparse: ["id"],
  state: ["space", "key"],
  retry: ["group_name", "stream", "seq"],
} as const;
export type LargeTable = keyof typeof largeTables;
export const largeTableNames = Object.keys(largeTables) as LargeTable[];

export class Walk {
  readonly #db: Db;
  readonly #tables: LargeTable[];
  #after: WalkedRow | null = null;

  constructor(db: Db, tables: readonly LargeTable[] = largeTableNames) {
    this.#db = db;
    this.#tables = [...tables];
  }

  /** Whether all rows of that table, as they are at this moment, were walked over. */
  isPast(table: LargeTable): boolean {
    return !this.#tables.includes(table);
  }

  /** Calls `each` with the rows of the next slice; gives back their bytes, or null when there are no more. */
  slice(each: (table: LargeTable, row: WalkedRow) => void): number | null {
    const [table] = this.#tables;
    if (table === undefined) return null;
    const keys: readonly string[] = largeTables[table];
    let [rows, bytes] = [0, 0];
    for (const row of this.#rows(table, keys)) {
      this.#after = row.slice(0, keys.length);
      each(table, row);
      rows += 1;
      bytes += bytesOf(row);
      if (bytes >= sliceBytes) return bytes;
    }
    if (rows < sliceRows) {
      this.#tables.shift();
      this.#after = null;
    }
    return bytes;
  }

  #rows(table: LargeTable, keys: readonly string[]): Iterable<WalkedRow> {
    const after = this.#after;
    const place =
      after === null ? "" : `WHERE (${keys.join(", ")}) > (${keys.map(() => "?").join(", ")})`;
    return this.#db
      .prepare(`SELECT * FROM ${table} ${place} ORDER BY ${keys.join(", ")} LIMIT ${sliceRows}`)
      .safeIntegers(true)
      .raw()
      .iterate(...(after ?? [])) as Iterable<WalkedRow>;
  }
}

function bytesOf(row: WalkedRow): number {
  return row.reduce<number>(
    (sum, value) => sum + (typeof value === "string" || Buffer.isBuffer(value) ? value.length : 8),
    0,
  );
}

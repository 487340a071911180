/**
 * A step's table in memory. Three layers of time: what is durable or was loaded (`#rows`), which of it changed since
 * (`#dirty`), and what the present event did (`#undo`), so that it can be taken back.
 *
 * Bound: `rowsMax` rows. Rows are plain JSON; what one may hold is bounded by the step that makes it.
 */
import type { Table } from "./processor.ts";

export class StepTable<Row> implements Table<Row> {
  readonly #rowsMax: number;
  readonly #onEvicted: () => void;
  readonly #ageOf: ((row: Row) => number) | undefined;
  #rows = new Map<string, Row>();
  readonly #dirty = new Set<string>();
  #undo: [key: string, before: Row | undefined][] = [];

  constructor(rowsMax: number, onEvicted: () => void, ageOf?: (row: Row) => number) {
    this.#rowsMax = rowsMax;
    this.#ageOf = ageOf;
    this.#onEvicted = onEvicted;
  }

  get size(): number {
    return this.#rows.size;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  set(key: string, row: Row): readonly [key: string, row: Row] | null {
    this.#note(key);
    // To the end of the line: what is written least is evicted first.
    this.#rows.delete(key);
    this.#rows.set(key, row);
    if (this.#rows.size <= this.#rowsMax) return null;
    const [oldest] = this.#rows;
    if (oldest === undefined) return null;
    this.delete(oldest[0]);
    this.#onEvicted();
    return oldest;
  }

  delete(key: string): void {
    if (!this.#rows.has(key)) return;
    this.#note(key);
    this.#rows.delete(key);
  }

  entries(): Iterable<readonly [key: string, row: Row]> {
    return this.#rows;
  }

  clear(): void {
    this.#rows.clear();
    this.#dirty.clear();
    this.#undo = [];
  }

  /** A row that is durable. */
  load(key: string, row: Row): void {
    this.#rows.set(key, row);
  }

  /** All are there: in their order again. A bound that was lowered meanwhile holds from here on. */
  loaded(): void {
    const ageOf = this.#ageOf;
    if (ageOf !== undefined) {
      this.#rows = new Map([...this.#rows].toSorted(([, a], [, b]) => ageOf(a) - ageOf(b)));
    }
    while (this.#rows.size > this.#rowsMax) {
      const [[key] = [""]] = this.#rows;
      this.delete(key);
      this.#onEvicted();
    }
  }

  keep(): void {
    for (const [key] of this.#undo) this.#dirty.add(key);
    this.#undo = [];
  }

  /** How far the present event has come, for `rewind`. */
  mark(): number {
    return this.#undo.length;
  }

  rewind(mark = 0): void {
    for (const [key, before] of this.#undo.splice(mark).toReversed()) {
      if (before === undefined) this.#rows.delete(key);
      else this.#rows.set(key, before);
    }
  }

  /** What changed since the last call; null: it is gone. */
  takeChanges(): [key: string, row: Row | null][] {
    const changes = [...this.#dirty].map((key): [string, Row | null] => [
      key,
      this.#rows.get(key) ?? null,
    ]);
    this.#dirty.clear();
    return changes;
  }

  #note(key: string): void {
    this.#undo.push([key, this.#rows.get(key)]);
  }
}

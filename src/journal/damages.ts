/**
 * Ranges of events that damage has taken, each told in `_gaps` once: a row is written when it is met, and marked in
 * the transaction that tells it.
 *
 * Bound: `rangesMax` ranges; a further one is joined to its stream's last, and so told as more than it is. Kept in
 * `note`.
 */
import type { Gap } from "./gaps.ts";
import type { Damage } from "./journal.ts";
import type { Db } from "./sqlite.ts";

const rangesMax = 1_000;

interface DamageRow {
  readonly stream: string;
  readonly from_seq: number;
  readonly to_seq: number;
}

export class Damages {
  readonly #put;
  readonly #untold;
  readonly #mark;
  readonly #all;
  readonly #widen;
  #hasUntold: boolean;

  constructor(db: Db) {
    this.#put = db.prepare(
      "INSERT OR IGNORE INTO damage (stream, from_seq, to_seq) VALUES (@stream, @from, @to)",
    );
    this.#all = db.prepare("SELECT stream, from_seq, to_seq FROM damage ORDER BY stream, from_seq");
    this.#untold = db.prepare("SELECT stream, from_seq, to_seq FROM damage WHERE told = 0");
    this.#mark = db.prepare("UPDATE damage SET told = 1 WHERE told = 0");
    this.#widen = db.prepare(
      `UPDATE damage SET to_seq = max(to_seq, @to), told = 0 WHERE stream = @stream AND from_seq =
        (SELECT max(from_seq) FROM damage WHERE stream = @stream)`,
    );
    this.#hasUntold = this.#untold.get() !== undefined;
  }

  all(): Damage[] {
    return (this.#all.all() as DamageRow[]).map(rangeOf);
  }

  note(ranges: readonly Damage[]): void {
    let known = this.#all.all().length;
    for (const range of ranges) {
      if (known >= rangesMax && this.#widen.run(range).changes > 0) this.#hasUntold = true;
      else if (this.#put.run(range).changes > 0) {
        known += 1;
        this.#hasUntold = true;
      }
    }
  }

  /** For `_gaps`, within the transaction that writes them. */
  takeUntold(): Gap[] {
    if (!this.#hasUntold) return [];
    const ranges = (this.#untold.all() as DamageRow[]).map(rangeOf);
    this.#mark.run();
    return ranges.map((range) => ({ ...range, kept: 0, reason: "damaged" }));
  }

  /** After the commit. */
  keep(): void {
    this.#hasUntold = false;
  }
}

function rangeOf({ stream, from_seq: from, to_seq: to }: DamageRow): Damage {
  return { stream, from, to };
}

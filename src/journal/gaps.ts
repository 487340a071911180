/**
 * What was dropped, until it is told in the stream `_gaps` (invariant 5): adjacent ranges of one stream and reason
 * merge in the table `gap` until they are quiet for 10 s, or 60 s old; then they are sealed into the stream.
 *
 * Records come into the stream in an order in which the later is the truer: where a range is dropped that an open one
 * told to be thinned, that one is sealed first.
 *
 * Bound: one open range for each stream and reason.
 */
import type { Moment } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

const sealQuietMs = 10_000;
const sealAgeMs = 60_000;

/** As it is written: of the seqs from `from` to `to`, `kept` are still there. */
export interface Gap {
  readonly stream: string;
  readonly from: number;
  readonly to: number;
  readonly kept: number;
  readonly reason: string;
}

type OpenGap = Gap & { readonly openedMs: number; readonly extendedMs: number };

interface GapRow {
  readonly stream: string;
  readonly from_seq: number;
  readonly to_seq: number;
  readonly reason: string;
  readonly kept: number;
}

export class Gaps {
  readonly #open = new Map<string, OpenGap>();
  readonly #all;
  readonly #put;
  readonly #remove;
  #due: Gap[] = [];

  constructor(db: Db) {
    this.#all = db.prepare("SELECT stream, from_seq, to_seq, reason, kept FROM gap");
    this.#put = db.prepare(
      "INSERT OR REPLACE INTO gap (stream, from_seq, to_seq, reason, kept) VALUES (?, ?, ?, ?, ?)",
    );
    this.#remove = db.prepare("DELETE FROM gap WHERE stream = ? AND reason = ?");
    this.#load();
  }

  note(gap: Gap, now: Moment): void {
    const key = gapKey(gap);
    for (const [otherKey, other] of this.#open) {
      const overlaps = other.stream === gap.stream && other.from <= gap.to && other.to >= gap.from;
      if (otherKey !== key && overlaps) this.#seal(otherKey, other);
    }
    const open = this.#open.get(key);
    const extended = open !== undefined && open.to + 1 === gap.from;
    if (open !== undefined && !extended) this.#seal(key, open);
    const joined: OpenGap = extended
      ? { ...open, to: gap.to, kept: open.kept + gap.kept, extendedMs: now.monotonicMs }
      : { ...gap, openedMs: now.monotonicMs, extendedMs: now.monotonicMs };
    this.#open.set(key, joined);
    this.#put.run(gap.stream, joined.from, joined.to, gap.reason, joined.kept);
  }

  /** The ranges whose time has come, to be emitted into `_gaps` in this very transaction. */
  takeDue(now: Moment): readonly Gap[] {
    for (const [key, gap] of this.#open) {
      const isQuiet = now.monotonicMs - gap.extendedMs >= sealQuietMs;
      if (isQuiet || now.monotonicMs - gap.openedMs >= sealAgeMs) this.#seal(key, gap);
    }
    const due = this.#due;
    this.#due = [];
    return due;
  }

  #seal(key: string, { stream, from, to, kept, reason }: OpenGap): void {
    this.#due.push({ stream, from, to, kept, reason });
    this.#open.delete(key);
    this.#remove.run(stream, reason);
  }

  /** After a rollback: what the file says is true again. */
  discard(): void {
    this.#due = [];
    this.#load();
  }

  #load(): void {
    const times = new Map(this.#open);
    this.#open.clear();
    for (const {
      stream,
      from_seq: from,
      to_seq: to,
      reason,
      kept,
    } of this.#all.all() as GapRow[]) {
      const gap = { stream, from, to, kept, reason };
      // From an earlier run: due at once.
      const { openedMs = Number.NEGATIVE_INFINITY, extendedMs = Number.NEGATIVE_INFINITY } =
        times.get(gapKey(gap)) ?? {};
      this.#open.set(gapKey(gap), { ...gap, openedMs, extendedMs });
    }
  }
}

function gapKey({ stream, reason }: Gap): string {
  return `${stream}\0${reason}`;
}

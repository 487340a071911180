/**
 * How far a sink has come: what it has confirmed, and how much of that is durable.
 *
 * A cursor is one row; to write it for each batch would wear the disk for nothing. So one commit is under way at
 * the most, and what is confirmed meanwhile goes with the next one: a sink may be as fast as it likes, the journal
 * sees at most one small unit for each of its turns.
 *
 * - Where the sink gave a mark (it can go back to it) the unit is made within the usual linger; else it rides on
 *   whatever the journal commits next, since a cursor that lags costs repetitions after a crash and nothing more.
 * - Dead letters become durable at once, in one unit with the cursor that passes them; until then nothing more is
 *   sent. So an event is refused into the dead letters once, whatever crashes.
 * - A unit that is refused says that somebody has moved the cursor (a replay): nothing of it happened, and what
 *   the journal says counts again.
 *
 * Bound: one position for each stream, with its ranges (position.ts), and the dead letters of one batch.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Cursor, CursorMove, Journal, NewDeadLetter, UnitOfWork } from "../journal/journal.ts";
import { journalRetryMaxMs } from "./trouble.ts";
import { fromCursor, settled, settledBeyond, toMark, type Position } from "./position.ts";

export type Emit = NonNullable<UnitOfWork["emits"]>[number];

export interface Correction {
  readonly stream: string;
  readonly to: number;
  /** What was done with beyond is no longer believed. */
  readonly forgets: boolean;
}

export interface ProgressParts {
  readonly context: Context;
  readonly journal: Pick<Journal, "commit" | "commitSoon" | "cursor">;
  readonly streams: readonly string[];
  /** A stream's cursor is on disk. */
  onDurable(stream: string, cursor: Cursor): void;
  /** Somebody else has moved a cursor: `load` again. */
  onMoved(): void;
  readonly signal: AbortSignal;
}

const commitBackoff = { baseMs: 1000, maxMs: journalRetryMaxMs };

export class Progress {
  readonly #parts: ProgressParts;
  readonly #confirmed = new Map<string, Position>();
  readonly #durable = new Map<string, Cursor>();
  #deadLetters: readonly NewDeadLetter[] = [];
  #isUrgent = false;
  #hasMoved = false;
  #committing: Promise<void> | null = null;

  constructor(parts: ProgressParts) {
    this.#parts = parts;
  }

  /** Takes the journal's word for everything. No commit may be under way. */
  load(): void {
    this.#hasMoved = false;
    this.#deadLetters = [];
    for (const stream of this.#parts.streams) {
      const cursor = this.#parts.journal.cursor(this.#parts.context.name, stream);
      this.#confirmed.set(stream, fromCursor(cursor));
      this.#durable.set(stream, cursor);
    }
  }

  get hasMoved(): boolean {
    return this.#hasMoved;
  }

  confirmed(stream: string): Position {
    return this.#confirmed.get(stream) ?? { seq: 0, ranges: [], mark: null };
  }

  /** As the sink knows it. */
  asKnown(stream: string): Cursor {
    const { seq, mark } = this.confirmed(stream);
    return { seq, mark };
  }

  positions(): ReadonlyMap<string, Position> {
    return this.#confirmed;
  }

  /** How many seqs up to these heads are not done with. */
  missing(heads: readonly (readonly [stream: string, head: number])[]): number {
    return heads.reduce((sum, [stream, head]) => {
      const position = this.confirmed(stream);
      return sum + Math.max(0, head - position.seq - settledBeyond(position));
    }, 0);
  }

  /** As the sink knows it: with its own mark. */
  durable(stream: string): Cursor {
    const { seq, mark } = fromCursor(this.#stored(stream));
    return { seq, mark };
  }

  #stored(stream: string): Cursor {
    return this.#durable.get(stream) ?? { seq: 0, mark: null };
  }

  /** The sink is done with everything behind `after` up to `to`. Resolves when the next may be sent. */
  async settle(
    stream: string,
    after: number,
    to: number,
    mark: string | undefined,
    deadLetters: readonly NewDeadLetter[] = [],
  ): Promise<void> {
    if (this.#hasMoved) return;
    const position = settled(this.confirmed(stream), after, to);
    this.#confirmed.set(stream, { ...position, mark: mark ?? position.mark });
    if (deadLetters.length === 0) {
      this.#committing ??= this.#commit();
      return;
    }
    this.#deadLetters = [...this.#deadLetters, ...deadLetters];
    await this.flush();
  }

  /** Resolves when all that was confirmed is durable, or somebody else has moved the cursor, or we are stopped. */
  async flush(): Promise<void> {
    this.#isUrgent = true;
    this.#committing ??= this.#commit();
    // What is under way may be waiting for a companion.
    this.#parts.journal.commitSoon();
    await this.#committing;
  }

  /**
   * Somebody knows better where cursors stand: they go there, in one unit with what is to be told of it.
   * @throws HoldfastError when the journal does not take it
   */
  async correct(moves: readonly Correction[], emits: readonly Emit[]): Promise<void> {
    const { context, journal } = this.#parts;
    await this.flush();
    if (this.#hasMoved) return;
    const cursors = moves.map(({ stream, to, forgets }) => {
      const { seq: from } = this.#stored(stream);
      const position = this.confirmed(stream);
      const next = forgets
        ? { ...position, seq: to, ranges: [] }
        : settled(position, position.seq, to);
      return { stream, from, to: next.seq, mark: toMark(next) };
    });
    const unit = { group: context.name, cursors, ...(emits.length > 0 && { emits }) };
    if ((await journal.commit(unit, "soon")) === "refused") return this.moved();
    for (const { stream, to: seq, mark } of cursors) {
      this.#confirmed.set(stream, fromCursor({ seq, mark }));
    }
    this.#landed(cursors);
  }

  async #commit(): Promise<void> {
    const { context, journal, signal } = this.#parts;
    let failures = 0;
    try {
      // Not in the caller's turn: a caller that settles several streams in a row gets one unit.
      await Promise.resolve();
      for (;;) {
        const cursors = this.#moves();
        const deadLetters = this.#deadLetters;
        if (cursors.length === 0) return;
        const when = this.#isUrgent ? "soon" : this.#haveMarks(cursors) ? "linger" : "idle";
        try {
          const unit = {
            group: context.name,
            cursors,
            ...(deadLetters.length > 0 && { deadLetters }),
          };
          if ((await journal.commit(unit, when)) === "refused") return this.moved();
          failures = 0;
          this.#deadLetters = this.#deadLetters.slice(deadLetters.length);
          this.#landed(cursors);
        } catch (error) {
          if (!(error instanceof HoldfastError)) throw error;
          if (++failures === 1) {
            context.log.warn(`Cannot commit the cursor of ${context.name}: ${error.message}`, {
              code: error.code,
            });
          }
          if (signal.aborted) return;
          const delayMs = backoffDelayMs(commitBackoff, failures, context.random());
          await context.clock.sleep(delayMs, signal).catch(() => undefined);
        }
      }
    } finally {
      this.#committing = null;
      this.#isUrgent = false;
    }
  }

  #moves(): CursorMove[] {
    const moves: CursorMove[] = [];
    for (const [stream, position] of this.#confirmed) {
      const durable = this.#stored(stream);
      const [seq, mark] = [position.seq, toMark(position)];
      if (seq === durable.seq && mark === durable.mark) continue;
      moves.push({ stream, from: durable.seq, to: seq, ...(mark !== durable.mark && { mark }) });
    }
    return moves;
  }

  /** Whether the sink itself has said something new; ranges beyond a cursor cost repetitions at the most, as it does. */
  #haveMarks(moves: readonly CursorMove[]): boolean {
    return moves.some(({ stream, to, mark }) => {
      if (mark === undefined) return false;
      return fromCursor({ seq: to, mark }).mark !== this.durable(stream).mark;
    });
  }

  #landed(moves: readonly CursorMove[]): void {
    for (const { stream, to, mark } of moves) {
      const cursor = { seq: to, mark: mark === undefined ? this.#stored(stream).mark : mark };
      this.#durable.set(stream, cursor);
      this.#parts.onDurable(stream, this.durable(stream));
    }
  }

  /** Somebody else has moved a cursor: what the journal says counts again. */
  moved(): void {
    this.#hasMoved = true;
    this.#deadLetters = [];
    this.#parts.onMoved();
  }
}

/**
 * The events of one processor that failed and wait for another attempt, and those that wait behind them
 * (invariant 10): the memory's picture of the journal's retry rows.
 *
 * Rows lie in lanes. With `order: key` a lane is a key of a stream, oldest first: its head is the one that failed,
 * the others wait behind it. An event without a key, and every event with `order: none`, has a lane of its own.
 *
 * Bound: `rowsMax` rows and `bytesMax` bytes for each processor, kept by `hasRoom`, which the loop asks before it
 * runs an event; the last row may pass `bytesMax` by one event.
 *
 * Due times are kept on the monotonic clock, so that a wall clock that jumps neither hurries nor stalls them; the
 * rows' own `dueAt` is only read after a restart, and then trusted no further than the longest delay.
 */
import type { RetryRow } from "../journal/journal.ts";

/** 1,000 rows: at 90 bytes of payload they cost nothing, and a processor that fails more than this is broken. */
export const retryRowsMax = 1000;
/** 4 MiB: what 1,000 rows of 4 KiB take; more would let a failing handler decide about the agent's memory. */
export const retryBytesMax = 4 * 1024 * 1024;

interface Lane {
  /** Never empty. */
  rows: RetryRow[];
  /** When the head may be tried again, monotonic ms. */
  dueMs: number;
}

export class RetryRows {
  readonly #orderByKey: boolean;
  readonly #rowsMax: number;
  readonly #lanes = new Map<string, Lane>();
  #count = 0;
  #bytes = 0;

  constructor(orderByKey: boolean, rowsMax = retryRowsMax) {
    this.#orderByKey = orderByKey;
    this.#rowsMax = rowsMax;
  }

  /** Takes over what the journal has. `nowWallMs` and `nowMs` are the same moment on both clocks. */
  load(rows: readonly RetryRow[], nowWallMs: number, nowMs: number, delayMaxMs: number): void {
    this.#lanes.clear();
    this.#count = 0;
    this.#bytes = 0;
    for (const row of rows.toSorted((a, b) => a.event.seq - b.event.seq)) {
      const waitMs = Math.min(delayMaxMs, Math.max(0, row.dueAt - nowWallMs));
      this.put(row, nowMs + waitMs);
    }
  }

  get count(): number {
    return this.#count;
  }

  /** How often the row that was tried most often was tried. */
  get attemptsMost(): number {
    let most = 0;
    for (const { rows } of this.#lanes.values()) most = Math.max(most, rows[0]?.attempts ?? 0);
    return most;
  }

  hasRoom(): boolean {
    return this.#count < this.#rowsMax && this.#bytes < retryBytesMax;
  }

  /** Whether an event must wait behind another of its key. */
  holds(event: RetryRow["event"]): boolean {
    return this.#count > 0 && this.#lanes.has(this.laneOf(event));
  }

  /** Adds a row at the end of its lane, or replaces it there. `dueMs` counts for a head only. */
  put(row: RetryRow, dueMs: number): void {
    const name = this.laneOf(row.event);
    const lane = this.#lanes.get(name);
    if (lane === undefined) {
      this.#lanes.set(name, { rows: [row], dueMs });
    } else {
      const at = lane.rows.findIndex((other) => other.event.seq === row.event.seq);
      if (at === 0) lane.dueMs = dueMs;
      if (at >= 0) {
        lane.rows[at] = row;
        return;
      }
      lane.rows.push(row);
    }
    this.#count += 1;
    this.#bytes += weigh(row);
  }

  /** Takes a row away; the next in its lane may be tried at once. */
  remove(event: RetryRow["event"], nowMs: number): void {
    const name = this.laneOf(event);
    const lane = this.#lanes.get(name);
    const at = lane?.rows.findIndex((row) => row.event.seq === event.seq) ?? -1;
    const row = lane?.rows[at];
    if (lane === undefined || row === undefined) return;
    lane.rows.splice(at, 1);
    if (at === 0) lane.dueMs = nowMs;
    if (lane.rows.length === 0) this.#lanes.delete(name);
    this.#count -= 1;
    this.#bytes -= weigh(row);
  }

  /**
   * What may be tried now, of one stream: each lane that is due, in order, as far as `eventsMax` goes. What waits
   * behind a head is tried right after it.
   */
  due(nowMs: number, eventsMax: number): readonly RetryRow[] {
    const due = [...this.#lanes.values()].filter((lane) => lane.dueMs <= nowMs);
    const oldest = due.toSorted((a, b) => a.dueMs - b.dueMs);
    const stream = oldest[0]?.rows[0]?.event.stream;
    const found: RetryRow[] = [];
    for (const lane of oldest) {
      if (found.length >= eventsMax) break;
      if (lane.rows[0]?.event.stream === stream) {
        found.push(...lane.rows.slice(0, eventsMax - found.length));
      }
    }
    return found;
  }

  /** When the next head is due, monotonic ms; null: none waits. */
  nextDueMs(): number | null {
    let next: number | null = null;
    for (const { dueMs } of this.#lanes.values()) next = Math.min(next ?? dueMs, dueMs);
    return next;
  }

  /** The lane's name: two events that have the same must keep their order. */
  laneOf({ stream, seq, key }: RetryRow["event"]): string {
    // U+0000 stands in no stream's name, so that no two lanes share one.
    return this.#orderByKey && key !== null ? `${stream}\0k${key}` : `${stream}\0s${seq}`;
  }
}

/** The reason is bounded as a dead letter's is, and is not counted: it changes while the row stays. */
function weigh({ event }: RetryRow): number {
  return event.payload.length + (event.key?.length ?? 0);
}

/**
 * What one worker holds of a topic: entries that were handed to it and are not settled.
 *
 *   fresh ──► running ──► settled (forgotten here)
 *     ▲          └─ failed: waiting until it is due ──► fresh again
 *     └─ of a key that waits: later ones stay behind it (where order by key is asked for)
 *
 * Where order by key is asked for, what is held is always in the order in which the server has it pending for this
 * worker, from the oldest on: when some of it may be another's (`reset`), it counts as held again when it was given again.
 *
 * Bounds: reading stops at `freshMax` that are fresh, and altogether at `waitingMax` that wait for another attempt: the
 * group then stands still for this worker, visibly (`lag`), until some of them have passed.
 */
import type { RunItem } from "./execution.ts";
import type { Fields } from "../wire/wire.ts";

/** As in the agent (flow/retry-rows.ts): failing events, not a store of them. */
export const waitingMax = 1_000;
/** From this many deliveries on an entry runs alone: who had it died, and it may be the reason. */
const suspectDeliveries = 3;

export interface HeldEntry {
  readonly id: string;
  readonly incarnation: string;
  readonly fields: Fields;
  readonly deliveries: number;
  /** Durably counted. */
  failures: number;
  /** Null: it could not be read, for the reason in `unfit`. */
  readonly item: Omit<RunItem, "attempt"> | null;
  readonly unfit: Error | null;
  /** When it is due, monotone ms; 0: now. */
  dueMs: number;
  isRunning: boolean;
  /** The first attempt, ms since 1970. */
  firstMs: number | null;
}

export class Held {
  readonly #entries = new Map<string, HeldEntry>();
  /** Held before the last reset and not given again yet: what runs, and what is known of the rest. */
  readonly #former = new Map<string, HeldEntry>();
  /** Since the read began: their incarnations. At most what was held then and what was taken over meanwhile. */
  readonly #settled = new Map<string, string>();
  readonly #isOrdered: boolean;

  constructor(isOrdered: boolean) {
    this.#isOrdered = isOrdered;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** A read begins: what is settled while it is under way may still be in its answer, and is not to be run again. */
  watch(): void {
    this.#settled.clear();
  }

  /** It is held, or was settled while the read that brought it was under way. */
  knows(id: string, incarnation: string): boolean {
    return this.#entries.has(id) || this.#settled.get(id) === incarnation;
  }

  /** Dealt with, and acknowledged. */
  settle(id: string): void {
    const entry = this.#entries.get(id) ?? this.#former.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    this.#former.delete(id);
    this.#settled.set(id, entry.incarnation);
  }

  ids(): string[] {
    return [...this.#entries.keys()];
  }

  /** What runs, be it held still or not. */
  underWay(): string[] {
    const all = [...this.#former.values(), ...this.#entries.values()];
    return all.filter(({ isRunning }) => isRunning).map(({ id }) => id);
  }

  add(entry: HeldEntry): void {
    const former = this.#former.get(entry.id);
    this.#former.delete(entry.id);
    if (former?.incarnation !== entry.incarnation) this.#entries.set(entry.id, entry);
    else if (former.isRunning) this.#entries.set(entry.id, former);
    else {
      const { dueMs, firstMs } = former;
      this.#entries.set(entry.id, { ...entry, dueMs, firstMs });
    }
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /** Nothing is held until it is given again, the oldest first; what runs is told when it is committed. */
  reset(): void {
    for (const [id, { isRunning }] of this.#former) if (!isRunning) this.#former.delete(id);
    for (const entry of this.#entries.values()) this.#former.set(entry.id, entry);
    this.#entries.clear();
  }

  remove(id: string): void {
    this.#entries.delete(id);
  }

  /** Others have them now; what runs is told when it is committed. */
  drop(ids: readonly string[]): void {
    for (const id of ids) {
      if (this.#entries.get(id)?.isRunning === false) this.#entries.delete(id);
    }
  }

  /** What is of another life of the topic is gone with it. */
  dropOthers(incarnation: string): void {
    for (const entry of this.#entries.values()) {
      if (entry.incarnation !== incarnation && !entry.isRunning) this.#entries.delete(entry.id);
    }
  }

  counts(): { readonly fresh: number; readonly waiting: number } {
    let [fresh, waiting] = [0, 0];
    for (const entry of this.#entries.values()) {
      if (entry.isRunning) continue;
      if (entry.failures > 0) waiting += 1;
      else fresh += 1;
    }
    return { fresh, waiting };
  }

  /** The next batch, at most `max`, marked as running. All of one incarnation; a suspect is alone. */
  next(nowMs: number, max: number): HeldEntry[] {
    const batch: HeldEntry[] = [];
    const blocked = new Set<string>();
    for (const entry of this.#entries.values()) {
      if (batch.length >= max) break;
      const key = this.#isOrdered ? (entry.item?.event.key ?? null) : null;
      if (entry.isRunning || entry.dueMs > nowMs || (key !== null && blocked.has(key))) {
        if (key !== null) blocked.add(key);
        continue;
      }
      if (batch[0] !== undefined && entry.incarnation !== batch[0].incarnation) break;
      if (isSuspect(entry)) {
        if (batch.length > 0) break;
        batch.push(entry);
        break;
      }
      batch.push(entry);
    }
    for (const entry of batch) entry.isRunning = true;
    return batch;
  }

  /** When the next one that waits is due, monotone ms; null: none waits. */
  nextDueMs(): number | null {
    let next: number | null = null;
    for (const { dueMs, isRunning } of this.#entries.values()) {
      if (!isRunning && dueMs > 0 && (next === null || dueMs < next)) next = dueMs;
    }
    return next;
  }
}

/** Its former workers died with it, more than once. */
export function isSuspect(entry: HeldEntry): boolean {
  return entry.deliveries >= suspectDeliveries;
}

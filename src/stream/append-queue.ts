/**
 * What `emit` was given, on its way into the streams: gathered while an append is under way, so that a thousand calls
 * that nobody awaits one by one cost a few round trips, and in the order of the calls.
 *
 * Each event has a number; an append whose answer was lost is repeated under the same numbers until there is an answer,
 * and the server skips what is there: stored once, however often the connection breaks.
 *
 * Bounds: `queueMax` events wait, further ones are refused with STREAM_FULL; an append carries `batchMax` events and
 * `batchBytesMax` bytes. An event that was not stored within `deadlineMs` is given up: its emit rejects, and it may be
 * stored or not.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { EncodedFields } from "../wire/wire.ts";
import type { StreamBackend } from "./backend.ts";

export const queueMax = 100_000;
const batchMax = 512;
/** 1 MiB: what a script should not hold a server up with for longer than some milliseconds. */
const batchBytesMax = 1024 * 1024;
/** Longer than a server takes to start again and load its file. */
const deadlineMs = 60_000;
const pace = { baseMs: 20, maxMs: 2_000 };

interface Waiting {
  readonly fields: EncodedFields;
  readonly bytes: number;
  readonly untilMs: number;
  readonly resolve: (id: string | null) => void;
  readonly reject: (error: unknown) => void;
}

export interface AppendQueueParts {
  readonly backend: StreamBackend;
  readonly topic: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly maxLength?: number;
}

export class AppendQueue {
  readonly #parts: AppendQueueParts;
  readonly #producer = crypto.randomUUID();
  #waiting: Waiting[] = [];
  /** How many at the front of `#waiting` are gone. */
  #taken = 0;
  #next = 1;
  #loop: Promise<void> | undefined;

  constructor(parts: AppendQueueParts) {
    this.#parts = parts;
  }

  /**
   * The entry's ID once it is stored; null where an earlier try had stored it.
   * @throws HoldfastError STREAM_FULL, STREAM_UNREACHABLE
   */
  append(fields: EncodedFields, bytes: number): Promise<string | null> {
    if (this.#waiting.length - this.#taken >= queueMax) {
      const why = `${queueMax} events wait to be stored in ${this.#parts.topic}: await what emit gives`;
      return Promise.reject(new HoldfastError("STREAM_FULL", why));
    }
    return new Promise((resolve, reject) => {
      const untilMs = this.#parts.clock.monotonicMs() + deadlineMs;
      this.#waiting.push({ fields, bytes, untilMs, resolve, reject });
      this.#loop ??= Promise.resolve().then(() => this.#run());
    });
  }

  /** When all that waits is stored or given up. */
  async drained(): Promise<void> {
    await this.#loop;
  }

  async #run(): Promise<void> {
    while (this.#taken < this.#waiting.length) {
      const batch = this.#waiting.slice(this.#taken, this.#end());
      this.#taken += batch.length;
      // Now and then, not each time: a long queue is not copied for each of its batches.
      if (this.#taken > this.#waiting.length / 2) {
        this.#waiting = this.#waiting.slice(this.#taken);
        this.#taken = 0;
      }
      await this.#store(batch);
    }
    this.#loop = undefined;
  }

  /** Where the next batch ends. */
  #end(): number {
    let [end, bytes] = [this.#taken, 0];
    for (; end < this.#waiting.length && end < this.#taken + batchMax; end += 1) {
      bytes += this.#waiting[end]?.bytes ?? 0;
      if (end > this.#taken && bytes > batchBytesMax) break;
    }
    return end;
  }

  async #store(batch: readonly Waiting[]): Promise<void> {
    const { backend, topic, clock, random, maxLength } = this.#parts;
    const producer = { id: this.#producer, first: this.#next };
    this.#next += batch.length;
    const entries = batch.map(({ fields }) => fields);
    for (let attempt = 1; ; attempt += 1) {
      try {
        const options = { producer, ...(maxLength !== undefined && { maxLength }) };
        const ids = await backend.append(topic, entries, options);
        batch.forEach(({ resolve }, index) => resolve(ids[index] ?? null));
        return;
      } catch (thrown) {
        const isTransient = thrown instanceof HoldfastError && thrown.kind === "transient";
        const delayMs = backoffDelayMs(pace, attempt, random());
        const isOver = clock.monotonicMs() + delayMs > (batch[0]?.untilMs ?? 0);
        // A full topic is for the caller to know at once: waiting would only fill this queue as well.
        const isFull = thrown instanceof HoldfastError && thrown.code === "STREAM_FULL";
        if (!isTransient || isOver || isFull) {
          for (const { reject } of batch) reject(thrown);
          return;
        }
        await clock.sleep(delayMs);
      }
    }
  }
}

/**
 * From a store's outbox into the streams: what units of work emitted, in the order of their commits, once each.
 *
 * The rows of a store count up by commits, and the append names them so: what is in its stream already, since another
 * worker sent it or an answer was lost, is skipped there. A row leaves the outbox when it is in its stream. Every worker
 * of a store flushes it, so that what a killed one left goes on.
 *
 * Bounds: `pageRows` at a time; the rest waits in the store.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { OutboxRow, WorkerStore } from "../state/state.ts";
import type { StreamBackend } from "./backend.ts";

const pageRows = 500;
/** What a killed worker left is looked for this often, ms. */
const lookEveryMs = 2_000;
const pace = { baseMs: 50, maxMs: 5_000 };

export interface OutboxFlushParts {
  readonly backend: StreamBackend;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
}

export class OutboxFlush {
  readonly #parts: OutboxFlushParts;
  readonly #ending = new AbortController();
  #wake: (() => void) | undefined;
  #hasNews = false;
  #loop: Promise<void> | undefined;
  #isStopping = false;

  constructor(parts: OutboxFlushParts) {
    this.#parts = parts;
  }

  start(store: WorkerStore): void {
    this.#loop ??= this.#run(store);
  }

  /** There is something in the outbox. */
  wake(): void {
    this.#hasNews = true;
    this.#wake?.();
  }

  /** Sends what is there, for `graceMs` at the most; what is left goes at the next start. */
  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.wake();
    const timer = this.#parts.clock.after(graceMs, () => this.#ending.abort());
    await this.#loop;
    timer.cancel();
  }

  async #run(store: WorkerStore): Promise<void> {
    const { clock, log, random } = this.#parts;
    let failures = 0;
    while (!this.#ending.signal.aborted) {
      this.#hasNews = false;
      try {
        const rows = await store.readOutbox(0, pageRows);
        if (rows.length > 0) await this.#send(store, rows);
        failures = 0;
        if (rows.length > 0) continue;
      } catch (thrown) {
        failures += 1;
        if (failures === 1) log.warn(`The outbox waits: ${messageOf(thrown)}`);
        const isLasting = thrown instanceof HoldfastError && thrown.kind !== "transient";
        const delayMs = isLasting ? pace.maxMs : backoffDelayMs(pace, failures, random());
        await clock.sleep(delayMs, this.#ending.signal).catch(() => undefined);
        continue;
      }
      if (this.#isStopping) return;
      if (!this.#hasNews) await this.#news();
    }
  }

  async #send(store: WorkerStore, rows: readonly OutboxRow[]): Promise<void> {
    const byTopic = new Map<string, OutboxRow[]>();
    for (const row of rows) {
      const known = byTopic.get(row.topic);
      if (known === undefined) byTopic.set(row.topic, [row]);
      else known.push(row);
    }
    for (const [topic, its] of byTopic) {
      const ns = its.map(({ n }) => n);
      const producer = { id: store.id, first: ns[0] ?? 0, ns };
      await this.#parts.backend.append(
        topic,
        its.map(({ fields }) => fields),
        { producer },
      );
    }
    await store.releaseOutbox(rows.at(-1)?.n ?? 0);
  }

  #news(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#parts.clock.after(lookEveryMs, () => this.#wake?.());
      this.#wake = () => {
        this.#wake = undefined;
        timer.cancel();
        resolve();
      };
    });
  }
}

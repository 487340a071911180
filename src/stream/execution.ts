/**
 * Runs a batch of a library worker through its handler and says what came of it. It makes nothing durable and decides
 * nothing about failures: that is the worker's.
 *
 * It promises:
 * - An event that fails leaves no effects, and none that share its key are run behind it in this batch (where order by
 *   key is asked for).
 * - Events of one key run one after the other, in order; up to `concurrency` keys (or events, without keys) beside
 *   each other. One that read a state value which another has changed meanwhile runs again.
 * - A batch handler that throws is run again on halves, until the event that it fails on stands alone.
 * - What was not run (its time was up for others, the worker stops, effects have grown to their bound) is named in
 *   neither list.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { unlessAborted } from "../core/abort.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { OutboxEvent } from "../state/state.ts";
import { BatchEffects, type EventEffects } from "../state/effects.ts";
import { traceCreate, traceProcess } from "./tracing.ts";
import type { OutgoingEvent, TraceHeaders } from "../wire/wire.ts";
import type { EmitOptions, Handling, StreamContext, StreamEvent } from "./worker-handler.ts";

/** How often an event that met another's writes runs again beside it before it runs alone. */
const collisionsMax = 8;

export interface RunItem {
  readonly event: StreamEvent;
  /** 1 on the first attempt. */
  readonly attempt: number;
  readonly trace: TraceHeaders;
}

export interface ExecutionParts {
  readonly topic: string;
  readonly group: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly handling: Handling<never>;
  /** For one call of the handler. */
  readonly timeoutMs: number;
  readonly concurrency: number;
  readonly isOrdered: boolean;
  readonly encode: (
    topic: string,
    event: OutgoingEvent,
  ) => OutboxEvent & { readonly bytes: number };
}

export interface ExecutionOutcome {
  /** Indexes, each list ascending. */
  readonly succeeded: readonly number[];
  readonly late: ReadonlySet<number>;
  readonly failures: readonly { readonly index: number; readonly error: HoldfastError }[];
  readonly effects: BatchEffects<OutboxEvent>;
}

export class Execution {
  readonly #parts: ExecutionParts;
  #hasWarned = false;

  constructor(parts: ExecutionParts) {
    this.#parts = parts;
  }

  /** @throws HoldfastError when state cannot be read for a reason that does not pass */
  async run(
    items: readonly RunItem[],
    scope: string,
    readState: (key: string) => Promise<Uint8Array | null>,
    stop: AbortSignal,
  ): Promise<ExecutionOutcome> {
    let broken: HoldfastError | null = null as HoldfastError | null;
    const effects = new BatchEffects<OutboxEvent>(async (key) => {
      try {
        return await readState(key);
      } catch (thrown) {
        if (thrown instanceof HoldfastError && thrown.kind !== "transient") broken = thrown;
        throw thrown;
      }
    });
    const run = new Run(this.#parts, items, scope, effects, stop, () => this.#warn());
    if (this.#parts.handling.kind === "batch") await run.bisect(0, items.length);
    else await run.lanes();
    // That a person must look at the store is no event's fault: nothing of the batch is decided.
    if (broken !== null) throw broken;
    run.succeeded.sort((a, b) => a - b);
    run.failures.sort((a, b) => a.index - b.index);
    return { succeeded: run.succeeded, late: run.late, failures: run.failures, effects };
  }

  #warn(): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    this.#parts.log.warn(
      "A handler used its context after it had ended: that has no effect; await what it starts",
      { topic: this.#parts.topic },
    );
  }
}

class Run {
  readonly succeeded: number[] = [];
  readonly late = new Set<number>();
  readonly failures: { index: number; error: HoldfastError }[] = [];
  readonly #parts: ExecutionParts;
  readonly #items: readonly RunItem[];
  readonly #scope: string;
  readonly #effects: BatchEffects<OutboxEvent>;
  readonly #stop: AbortSignal;
  readonly #warn: () => void;

  constructor(
    parts: ExecutionParts,
    items: readonly RunItem[],
    scope: string,
    effects: BatchEffects<OutboxEvent>,
    stop: AbortSignal,
    warn: () => void,
  ) {
    this.#parts = parts;
    this.#items = items;
    this.#scope = scope;
    this.#effects = effects;
    this.#stop = stop;
    this.#warn = warn;
  }

  /** Event by event: a lane for each key, `concurrency` of them at a time. */
  async lanes(): Promise<void> {
    const lanes: number[][] = [];
    const byKey = new Map<string, number[]>();
    this.#items.forEach(({ event }, index) => {
      const key = this.#parts.isOrdered ? event.key : null;
      const known = key === null ? undefined : byKey.get(key);
      if (known !== undefined) {
        known.push(index);
        return;
      }
      const lane = [index];
      lanes.push(lane);
      if (key !== null) byKey.set(key, lane);
    });
    // With one at a time the order of the stream is kept over all keys: nothing is gained by changing it.
    if (this.#parts.concurrency <= 1) return this.#oneByOne();
    let next = 0;
    const take = async (): Promise<void> => {
      while (next < lanes.length && this.#goesOn()) {
        const lane = lanes[next] ?? [];
        next += 1;
        for (const index of lane) {
          if (!this.#goesOn() || !(await this.#one(index))) break;
        }
      }
    };
    await Promise.all(Array.from({ length: this.#parts.concurrency }, take));
  }

  async #oneByOne(): Promise<void> {
    const failed = new Set<string>();
    for (let index = 0; index < this.#items.length && this.#goesOn(); index += 1) {
      const key = this.#parts.isOrdered ? (this.#items[index]?.event.key ?? null) : null;
      if (key !== null && failed.has(key)) continue;
      if (!(await this.#one(index)) && key !== null) failed.add(key);
    }
  }

  /** A batch handler on a part of the batch; halved where it fails. */
  async bisect(from: number, to: number): Promise<void> {
    if (from >= to || !this.#goesOn()) return;
    const error = await this.#attempt(from, to);
    if (error === null) return;
    assert(error !== "collision", "Halves of a batch run one after the other");
    if (to - from === 1) {
      if (!this.#stop.aborted) this.failures.push({ index: from, error });
      return;
    }
    const middle = from + Math.ceil((to - from) / 2);
    await this.bisect(from, middle);
    // What shares a key with one that failed waits for it; in a batch that is told by the whole half.
    if (this.#parts.isOrdered && this.failures.length > 0) return;
    await this.bisect(middle, to);
  }

  #goesOn(): boolean {
    return !this.#stop.aborted && !this.#effects.isFull;
  }

  async #one(index: number): Promise<boolean> {
    for (let collisions = 0; ; collisions += 1) {
      const error = await this.#attempt(index, index + 1);
      if (error === null) return true;
      if (error === "collision") {
        if (collisions < collisionsMax) continue;
        const why = `Other events of the batch changed the same state ${collisions} times: give them one key`;
        this.failures.push({ index, error: new HoldfastError("HANDLER_FAILED", why) });
      } else if (!this.#stop.aborted) this.failures.push({ index, error });
      return false;
    }
  }

  /** Null: it ended well and its effects are the batch's. */
  async #attempt(from: number, to: number): Promise<HoldfastError | null | "collision"> {
    const item = this.#items[from];
    if (item === undefined) return null;
    const layer = this.#effects.begin();
    const { timeoutMs, clock, topic, group, handling } = this.#parts;
    const ending = new AbortController();
    const onStop = (): void => ending.abort(this.#stop.reason);
    this.#stop.addEventListener("abort", onStop, { once: true });
    const timer = clock.after(timeoutMs, () => ending.abort());
    const call = { isLate: false };
    try {
      const isBatch = handling.kind === "batch";
      const subject = isBatch ? { count: to - from } : { id: item.event.id };
      const came = isBatch ? this.#items.slice(from, to).map((each) => each.trace) : [item.trace];
      await traceProcess({ topic, group }, subject, came, async (trace) => {
        const context = this.#contextOf(item, layer, ending.signal, trace, call);
        const result = this.#call(from, to, context);
        if (result instanceof Promise) await unlessAborted(result, ending.signal);
      });
      if (!this.#effects.keep(layer)) return "collision";
      for (let index = from; index < to; index += 1) {
        this.succeeded.push(index);
        if (call.isLate) this.late.add(index);
      }
      return null;
    } catch (thrown) {
      return translate(thrown, ending.signal, timeoutMs);
    } finally {
      timer.cancel();
      this.#stop.removeEventListener("abort", onStop);
      layer.isClosed = true;
    }
  }

  #call(from: number, to: number, context: StreamContext): unknown {
    const { handling } = this.#parts;
    if (handling.kind === "batch") {
      const events = this.#items.slice(from, to).map(({ event }) => event);
      return handling.handler(events as never[], context);
    }
    return handling.handler(this.#items[from]?.event as never, context);
  }

  #contextOf(
    item: RunItem,
    layer: EventEffects<OutboxEvent>,
    signal: AbortSignal,
    trace: TraceHeaders,
    call: { isLate: boolean },
  ): StreamContext {
    const { topic, group, log, clock, encode } = this.#parts;
    const ifOpen = (act: () => void): void => (layer.isClosed ? this.#warn() : act());
    return {
      state: {
        get: (key) => layer.get(key),
        put: (key, value, { ttlMs } = {}) =>
          ifOpen(() =>
            layer.put(key, value, ttlMs === undefined ? undefined : clock.wallMs() + ttlMs),
          ),
        delete: (key) => ifOpen(() => layer.delete(key)),
      },
      emit: (to, payload, options: EmitOptions = {}) =>
        ifOpen(() => {
          const id = nameOf(this.#scope, item.event.entryId, layer.emits.length);
          const encoded = encode(to, {
            id,
            type: options.type ?? "GenericEvent",
            time: options.time ?? clock.wallMs(),
            key: options.key ?? null,
            payload,
            trace: traceCreate(to, id, trace),
          });
          layer.emitted({ topic: encoded.topic, fields: encoded.fields }, encoded.bytes);
        }),
      late: () => ifOpen(() => (call.isLate = true)),
      topic,
      group,
      key: item.event.key,
      attempt: item.attempt,
      trace,
      log,
      signal,
    };
  }
}

/**
 * The ID of an emitted event: the same when its event is run again, so that whoever reads it can tell. A UUID of
 * version 8 (RFC 9562, 5.8) made of the stream's incarnation, the event's entry and how many it had emitted before.
 */
function nameOf(scope: string, entryId: string, index: number): string {
  const hash = createHash("sha1").update(`${scope}\n${entryId}\n${index}`).digest("hex");
  const variant = ((Number.parseInt(hash.slice(16, 17), 16) & 3) | 8).toString(16);
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-${variant}${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

function translate(thrown: unknown, signal: AbortSignal, timeoutMs: number): HoldfastError {
  const isAbort = thrown instanceof Error && thrown.name === "AbortError";
  if (signal.aborted && (thrown === signal.reason || isAbort)) {
    const why = `The handler did not end within ${timeoutMs} ms`;
    return new HoldfastError("HANDLER_TIMEOUT", why, { cause: thrown });
  }
  if (thrown instanceof HoldfastError) return thrown;
  return new HoldfastError("HANDLER_FAILED", messageOf(thrown), { cause: thrown });
}

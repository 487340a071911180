/**
 * Runs a batch through steps and handler and says what came of it. It makes nothing durable and decides nothing
 * about failures: that is the loop's (flow/process.ts in the agent).
 *
 * It promises:
 * - Events are run one after the other, in order. An event that fails leaves no effects: neither what it emitted
 *   nor what it wrote into state, and the next one does not see its writes.
 * - `settled` says how far it came. What lies behind was not run, or was run without effects, and is to be run
 *   again: when the batch's time was up during an event that was not its first, when the agent stops, when the
 *   gate says stop, when the effects have grown to their bound.
 * - Nobody pays for a neighbour: an event is failed for being slow only when it had the whole time for itself.
 *
 * It cannot interrupt a handler that computes without ever awaiting. A handler that runs on after its time is
 * left alone: its promise is dropped and its context takes no effects any more.
 */
import { unlessAborted } from "../core/abort.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import {
  decodePayload,
  type NewEvent,
  type PayloadFormat,
  type StoredEvent,
} from "../core/event.ts";
import type { Event, Handler, HandlerContext, Step } from "../processor/processor.ts";
import type { StateStore, StateWrite } from "../state/state.ts";
import { BatchEffects, type EventEffects } from "./effects.ts";

export interface BatchProcessorParts {
  /** The processor's: also the space of its state. */
  readonly name: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly steps: readonly Step[];
  readonly handler?: Handler;
  /** Takes what the chain gives; left out: only what the handler emits is kept. */
  readonly to?: string;
  readonly timeoutMs: number;
  readonly state: StateStore;
  readonly formatOf: (stream: string) => PayloadFormat;
  readonly derive: Derive;
}

export type EmitOptions = NonNullable<Parameters<HandlerContext["emit"]>[2]>;

/**
 * The event that `payload` becomes in `stream`; `base` is the event that it came of, `original` that event's bytes
 * where the payload is still what they say.
 * @throws HoldfastError when it does not fit there
 */
export type Derive = (
  stream: string,
  payload: unknown,
  base: Event,
  options: EmitOptions,
  original?: Uint8Array,
) => NewEvent;

export interface Emit {
  readonly stream: string;
  readonly event: NewEvent;
}

export interface BatchItem {
  readonly event: StoredEvent;
  /** 1 on the first attempt. */
  readonly attempt: number;
}

/** How the loop takes part while a batch runs. */
export interface Gate {
  /** Before each event. `hold`: it is settled without being run; `stop`: the batch ends before it. */
  admit(item: BatchItem): "run" | "hold" | "stop";
  /** At each failure. `stop`: the batch ends before this event, which then was not settled. */
  failed(item: BatchItem, error: HoldfastError): "go-on" | "stop";
}

export interface BatchOutcome {
  /** How many from the start of the batch are dealt with: run, failed or held. */
  readonly settled: number;
  readonly emits: readonly Emit[];
  readonly state: readonly StateWrite[];
  /** Indexes of those that ended well, in order. */
  readonly succeeded: readonly number[];
  readonly failures: readonly { readonly index: number; readonly error: HoldfastError }[];
}

export class BatchProcessor {
  readonly #parts: BatchProcessorParts;
  #hasWarned = false;

  constructor(parts: BatchProcessorParts) {
    this.#parts = parts;
  }

  async run(items: readonly BatchItem[], gate: Gate, stop: AbortSignal): Promise<BatchOutcome> {
    const { name, state } = this.#parts;
    const effects = new BatchEffects<Emit>((key) => state.get(name, key));
    const succeeded: number[] = [];
    const failures: { index: number; error: HoldfastError }[] = [];
    const ending = new AbortController();
    const onStop = (): void => ending.abort(stop.reason);
    stop.addEventListener("abort", onStop, { once: true });
    const timer = this.#parts.clock.after(this.#parts.timeoutMs, () => ending.abort());
    let ranBefore = 0;
    let settled = 0;
    try {
      for (const item of items) {
        if (stop.aborted || ending.signal.aborted || effects.isFull) break;
        const admission = gate.admit(item);
        if (admission === "stop") break;
        if (admission === "run") {
          const error = await this.#runOne(item, effects, ending.signal);
          if (error !== null) {
            const isInterrupted = ending.signal.aborted && error.code === "HANDLER_TIMEOUT";
            if (isInterrupted && (stop.aborted || ranBefore > 0)) break;
            if (gate.failed(item, error) === "stop") break;
            failures.push({ index: settled, error });
          } else {
            succeeded.push(settled);
          }
          ranBefore += 1;
        }
        settled += 1;
      }
    } finally {
      timer.cancel();
      stop.removeEventListener("abort", onStop);
    }
    return { settled, emits: effects.emits, state: writesOf(effects, name), succeeded, failures };
  }

  async #runOne(
    item: BatchItem,
    batch: BatchEffects<Emit>,
    signal: AbortSignal,
  ): Promise<HoldfastError | null> {
    const effects = batch.begin();
    try {
      const event = this.#decode(item.event);
      let events: readonly Event[] = [event];
      for (const step of this.#parts.steps) events = events.flatMap((each) => step.process(each));
      for (const each of events) {
        if (this.#parts.handler === undefined) {
          this.#pass(each, effects, each.payload === event.payload ? item.event : undefined);
        } else {
          await this.#handle(this.#parts.handler, each, item.attempt, effects, signal);
        }
      }
      batch.keep(effects);
      return null;
    } catch (thrown) {
      return this.#translate(thrown, signal);
    } finally {
      effects.isClosed = true;
    }
  }

  #decode(event: StoredEvent): Event {
    const format = this.#parts.formatOf(event.stream);
    const { stream, seq, key, time, receivedAt, headers } = event;
    try {
      const payload = decodePayload(event.payload, format);
      return { stream, seq, key, time, receivedAt, headers, payload };
    } catch (cause) {
      const why = `Payload is not ${format}: ${messageOf(cause)}`;
      throw new HoldfastError("EVENT_MALFORMED", why, { cause });
    }
  }

  /** No handler: what the steps left goes on. What was not changed keeps its sender's bytes. */
  #pass(event: Event, effects: EventEffects<Emit>, unchanged: StoredEvent | undefined): void {
    const { to, formatOf, derive } = this.#parts;
    if (to === undefined) return;
    const isSame = unchanged !== undefined && formatOf(to) === formatOf(unchanged.stream);
    const original = isSame ? unchanged.payload : undefined;
    emitTo(effects, to, derive(to, event.payload, event, {}, original));
  }

  async #handle(
    handler: Handler,
    event: Event,
    attempt: number,
    effects: EventEffects<Emit>,
    signal: AbortSignal,
  ): Promise<void> {
    const result = handler(event, this.#contextOf(event, attempt, effects, signal));
    const output = isThenable(result) ? await unlessAborted(result, signal) : result;
    const { to, derive } = this.#parts;
    if (to === undefined || output === undefined || output === null) return;
    for (const payload of Array.isArray(output) ? (output as unknown[]) : [output]) {
      emitTo(effects, to, derive(to, payload, event, {}));
    }
  }

  #contextOf(
    event: Event,
    attempt: number,
    effects: EventEffects<Emit>,
    signal: AbortSignal,
  ): HandlerContext {
    const { derive, log } = this.#parts;
    /** A handler that ran past its end is no reason to crash: it is told once, in the log. */
    const ifOpen = (act: () => void): void => {
      if (!effects.isClosed) act();
      else if (!this.#hasWarned) {
        this.#hasWarned = true;
        log.warn(
          "A handler used its context after it had ended: that has no effect; await what it starts",
          {
            stream: event.stream,
            seq: event.seq,
          },
        );
      }
    };
    return {
      state: {
        get: (key) => effects.get(key),
        put: (key, value) => ifOpen(() => effects.put(key, value)),
        delete: (key) => ifOpen(() => effects.delete(key)),
      },
      emit: (stream, payload, options = {}) =>
        ifOpen(() => emitTo(effects, stream, derive(stream, payload, event, options))),
      log,
      attempt,
      signal,
    };
  }

  #translate(thrown: unknown, signal: AbortSignal): HoldfastError {
    if (signal.aborted && (thrown === signal.reason || isAbort(thrown))) {
      const why = `The batch did not end within ${this.#parts.timeoutMs} ms`;
      return new HoldfastError("HANDLER_TIMEOUT", why, { cause: thrown });
    }
    if (thrown instanceof HoldfastError) return thrown;
    return new HoldfastError("HANDLER_FAILED", messageOf(thrown), { cause: thrown });
  }
}

function emitTo(effects: EventEffects<Emit>, stream: string, event: NewEvent): void {
  effects.emitted({ stream, event }, event.payload.length);
}

function writesOf(effects: BatchEffects<Emit>, space: string): StateWrite[] {
  return effects.writes().map(({ key, value }) => ({ space, key, value }));
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    "then" in value &&
    typeof value.then === "function"
  );
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === "AbortError";
}

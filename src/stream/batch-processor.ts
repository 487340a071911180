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
import type {
  Chain,
  ChainOutcome,
  Event,
  Handler,
  HandlerContext,
} from "../processor/processor.ts";
import type { StateStore, StateWrite } from "../state/state.ts";
import { BatchEffects, type EventEffects } from "./effects.ts";

export interface BatchProcessorParts {
  /** The processor's: also the space of its state. */
  readonly name: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly chain: Chain;
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
  readonly refused: readonly Refused[];
}

/** An event made of many that could not go on: it is given up at once, and those that it is made of are not. */
export interface Refused {
  readonly event: Event;
  readonly error: HoldfastError;
}

/** What a stream's silence has brought; `error`: nothing of it happened. */
export type SilenceOutcome =
  | Omit<BatchOutcome, "settled" | "succeeded" | "failures">
  | { readonly error: HoldfastError };

/** What came of a batch so far. */
interface Batch {
  readonly effects: BatchEffects<Emit>;
  readonly refused: Refused[];
}

/** An event as it was decoded, and as it lies in its stream. */
interface Source {
  readonly event: Event;
  readonly stored: StoredEvent;
}

export class BatchProcessor {
  readonly #parts: BatchProcessorParts;
  #hasWarned = false;

  constructor(parts: BatchProcessorParts) {
    this.#parts = parts;
  }

  async run(items: readonly BatchItem[], gate: Gate, stop: AbortSignal): Promise<BatchOutcome> {
    const batch = this.#begin();
    const succeeded: number[] = [];
    const failures: { index: number; error: HoldfastError }[] = [];
    let ranBefore = 0;
    let settled = 0;
    await this.#withinTime(stop, async (signal) => {
      for (const item of items) {
        if (signal.aborted || batch.effects.isFull) break;
        const admission = gate.admit(item);
        if (admission === "stop") break;
        if (admission === "run") {
          const error = await this.#runOne(item, batch, signal);
          if (error !== null) {
            const isInterrupted = signal.aborted && error.code === "HANDLER_TIMEOUT";
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
    });
    return { settled, succeeded, failures, ...this.#outcome(batch) };
  }

  /** `stream` has been silent, at its head, for as long as the chain asks for. */
  async runSilence(stream: string, stop: AbortSignal): Promise<SilenceOutcome> {
    const { chain } = this.#parts;
    const batch = this.#begin();
    let error: HoldfastError | null = null;
    await this.#withinTime(stop, async (signal) => {
      error = await this.#keepAll(batch, signal, (effects, refused) =>
        this.#finish(chain.idle(stream), null, 1, effects, refused, signal),
      );
    });
    return error === null ? this.#outcome(batch) : { error };
  }

  #begin(): Batch {
    const { name, state } = this.#parts;
    return { effects: new BatchEffects<Emit>((key) => state.get(name, key)), refused: [] };
  }

  #outcome({ effects, refused }: Batch): Omit<BatchOutcome, "settled" | "succeeded" | "failures"> {
    const state = [...writesOf(effects, this.#parts.name), ...this.#parts.chain.takeWrites()];
    return { emits: effects.emits, state, refused };
  }

  /** The signal is aborted by `stop`, and when the batch's time is up. */
  async #withinTime(stop: AbortSignal, act: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const ending = new AbortController();
    const onStop = (): void => ending.abort(stop.reason);
    if (stop.aborted) onStop();
    stop.addEventListener("abort", onStop, { once: true });
    const timer = this.#parts.clock.after(this.#parts.timeoutMs, () => ending.abort());
    try {
      await act(ending.signal);
    } finally {
      timer.cancel();
      stop.removeEventListener("abort", onStop);
    }
  }

  #runOne(item: BatchItem, batch: Batch, signal: AbortSignal): Promise<HoldfastError | null> {
    return this.#keepAll(batch, signal, async (effects, refused) => {
      const event = this.#decode(item.event);
      const outcome = this.#parts.chain.process(event);
      const source = { event, stored: item.event };
      await this.#finish(outcome, source, item.attempt, effects, refused, signal);
    });
  }

  /** All that `act` does, or nothing of it and why. */
  async #keepAll(
    batch: Batch,
    signal: AbortSignal,
    act: (effects: EventEffects<Emit>, refused: Refused[]) => Promise<void>,
  ): Promise<HoldfastError | null> {
    const effects = batch.effects.begin();
    const refused: Refused[] = [];
    try {
      await act(effects, refused);
      batch.effects.keep(effects);
      batch.refused.push(...refused);
      this.#parts.chain.keep();
      return null;
    } catch (thrown) {
      this.#parts.chain.undo();
      return this.#translate(thrown, signal);
    } finally {
      effects.isClosed = true;
    }
  }

  /** What the chain has left goes to the handler, or as it is into `to`. */
  async #finish(
    outcome: ChainOutcome,
    source: Source | null,
    attempt: number,
    effects: EventEffects<Emit>,
    refused: Refused[],
    signal: AbortSignal,
  ): Promise<void> {
    refused.push(...outcome.refused);
    for (const { stream, event } of outcome.emits) this.#pass(stream, event, effects, source);
    for (const { event, isGathered } of outcome.passed) {
      const mark = isGathered ? effects.mark() : null;
      try {
        await this.#deliver(event, source, attempt, effects, signal);
      } catch (thrown) {
        const error = this.#translate(thrown, signal);
        if (mark === null || error.kind !== "refused" || signal.aborted) throw thrown;
        effects.rewind(mark);
        refused.push({ event, error });
      }
    }
  }

  async #deliver(
    event: Event,
    source: Source | null,
    attempt: number,
    effects: EventEffects<Emit>,
    signal: AbortSignal,
  ): Promise<void> {
    const { handler, to } = this.#parts;
    if (handler !== undefined) await this.#handle(handler, event, attempt, effects, signal);
    else if (to !== undefined) this.#pass(to, event, effects, source);
  }

  #decode(event: StoredEvent): Event {
    const format = this.#parts.formatOf(event.stream);
    const { stream, seq, key, time, receivedAt, headers, clock } = event;
    try {
      const payload = decodePayload(event.payload, format);
      return { stream, seq, key, time, receivedAt, headers, payload, clock };
    } catch (cause) {
      const why = `Payload is not ${format}: ${messageOf(cause)}`;
      throw new HoldfastError("EVENT_MALFORMED", why, { cause });
    }
  }

  /** What was not changed keeps its sender's bytes. */
  #pass(to: string, event: Event, effects: EventEffects<Emit>, source: Source | null): void {
    const { formatOf, derive } = this.#parts;
    const isSame =
      source !== null &&
      event.payload === source.event.payload &&
      formatOf(to) === formatOf(source.stored.stream);
    const original = isSame ? source.stored.payload : undefined;
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

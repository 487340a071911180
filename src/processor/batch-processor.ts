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
 * - Nobody pays for a neighbour: an event is failed for being slow only when it had the whole time for itself. A batch
 *   handler that throws is run again on halves, so that the event that it fails on fails alone; one that needs too long
 *   is given half as many the next time.
 *
 * It cannot interrupt a handler that computes without ever awaiting. A handler that runs on after its time is
 * left alone: its promise is dropped and its context takes no effects any more.
 */
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
  BatchHandler,
  Chain,
  ChainOutcome,
  Event,
  Handler,
  HandlerContext,
} from "./processor.ts";
import type { ListedStore, StateWrite } from "../state/state.ts";
import { unended, withEnd } from "../core/expiring.ts";
import { BatchEffects, type EventEffects } from "../state/effects.ts";
import { emitTo, HandlerCall, translate } from "./handler-call.ts";

export interface BatchProcessorParts {
  /** The processor's: also the space of its state. */
  readonly name: string;
  readonly log: Log;
  readonly clock: Clock;
  /** By what the ends of state are counted. */
  readonly wallMs: () => number;
  readonly chain: Chain;
  readonly handler?: Handler | BatchHandler;
  /** Takes what the chain gives; left out: only what the handler emits is kept. */
  readonly to?: string;
  readonly timeoutMs: number;
  readonly state: ListedStore;
  /** Why its state takes no new key; null: it does. */
  readonly stateProblem?: () => string | null;
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
  /** What `admit` would say, without any effect; left out: `admit` has none. */
  peek?(item: BatchItem): "run" | "hold" | "stop";
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

/** As many as a batch may have (processor/options.ts). */
const groupMaxMost = 10_000;

export class BatchProcessor {
  readonly #parts: BatchProcessorParts;
  readonly #handler: HandlerCall | null;
  /** The most events that a batch handler is given at once: fewer after it needed too long for more. */
  #groupMax: number;

  constructor(parts: BatchProcessorParts) {
    this.#parts = parts;
    const { handler } = parts;
    this.#handler = handler === undefined ? null : new HandlerCall({ ...parts, handler });
    this.#groupMax = typeof handler === "object" ? groupMaxMost : 1;
  }

  async run(items: readonly BatchItem[], gate: Gate, stop: AbortSignal): Promise<BatchOutcome> {
    const batch = this.#begin();
    const succeeded: number[] = [];
    const failures: { index: number; error: HoldfastError }[] = [];
    /** Where the halves end that are still to be run, the nearest last. */
    const ends: number[] = [];
    let hasRun = false;
    let settled = 0;
    await this.#withinTime(stop, async (signal) => {
      while (settled < items.length && !signal.aborted && !batch.effects.isFull) {
        if ((ends.at(-1) ?? items.length) <= settled) ends.pop();
        const group = this.#group(items.slice(settled, ends.at(-1)), gate);
        const admission = group.length > 0 ? "run" : gate.admit(items[settled] as BatchItem);
        if (admission === "stop") break;
        if (admission === "hold") {
          settled += 1;
          continue;
        }
        const error = await this.#runGroup(group, batch, signal);
        const isInterrupted = signal.aborted && error?.code === "HANDLER_TIMEOUT";
        if (isInterrupted && (stop.aborted || hasRun)) break;
        hasRun = true;
        if (error === null) {
          succeeded.push(...group.map((_, index) => settled + index));
          settled += group.length;
          this.#groupMax = Math.min(this.#groupMax * 2, this.#groupMost());
        } else if (group.length > 1 && isInterrupted) {
          this.#groupMax = Math.ceil(group.length / 2);
          break;
        } else if (group.length > 1 && error.kind === "refused") {
          ends.push(settled + Math.ceil(group.length / 2));
        } else {
          // What is not the fault of one of them (the far side is away) is that of none.
          const isOver = group.some((item, index) => {
            if (gate.failed(item, error) === "stop") return true;
            failures.push({ index: settled + index, error });
            return false;
          });
          if (isOver) break;
          settled += group.length;
        }
      }
    });
    return { settled, succeeded, failures, ...this.#outcome(batch) };
  }

  #groupMost(): number {
    return typeof this.#parts.handler === "object" ? groupMaxMost : 1;
  }

  /** As many of the first as may be run together; none: the first may not be run. */
  #group(items: readonly BatchItem[], gate: Gate): readonly BatchItem[] {
    let count = 0;
    while (count < Math.min(items.length, this.#groupMax)) {
      const item = items[count] as BatchItem;
      if ((gate.peek?.(item) ?? gate.admit(item)) !== "run") break;
      count += 1;
    }
    return items.slice(0, count);
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
    const { name, state, wallMs } = this.#parts;
    const effects = new BatchEffects<Emit>(async (key) =>
      unended(await state.get(name, key), wallMs()),
    );
    return { effects, refused: [] };
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

  #runGroup(
    items: readonly BatchItem[],
    batch: Batch,
    signal: AbortSignal,
  ): Promise<HoldfastError | null> {
    const [first] = items;
    if (first !== undefined && items.length === 1) return this.#runOne(first, batch, signal);
    return this.#keepAll(batch, signal, async (effects, refused) => {
      const events: Event[] = [];
      for (const { event: stored } of items) {
        const event = this.#decode(stored);
        const outcome = this.#parts.chain.process(event);
        refused.push(...outcome.refused);
        for (const emit of outcome.emits)
          this.#pass(emit.stream, emit.event, effects, { event, stored });
        events.push(...outcome.passed.map((each) => each.event));
      }
      const attempt = Math.max(...items.map((item) => item.attempt));
      if (events.length > 0) await this.#handler?.call(events, attempt, effects, signal);
    });
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
      return translate(thrown, signal, this.#parts.timeoutMs);
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
        const error = translate(thrown, signal, this.#parts.timeoutMs);
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
    const { to } = this.#parts;
    if (this.#handler !== null) await this.#handler.call([event], attempt, effects, signal);
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
}

function writesOf(effects: BatchEffects<Emit>, space: string): StateWrite[] {
  return effects.writes().map(({ key, value, expiresAt }) => {
    const hasEnd = value !== null && expiresAt !== undefined;
    return { space, key, value: hasEnd ? withEnd(value, expiresAt) : value };
  });
}

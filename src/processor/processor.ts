/**
 * A processor turns batches into effects: steps from the configuration, then perhaps a handler module.
 *
 * Steps and handlers are pure of durability: what they emit, put into state or refuse becomes durable together
 * with the cursor, in one unit of work (flow/process.ts), or not at all.
 */
import type { Headers } from "../core/event.ts";
import type { Log } from "../core/context.ts";

/** An event as a step or handler sees it: the payload is a value (object for JSON, string, or bytes). */
export interface Event<P = unknown> {
  readonly stream: string;
  readonly seq: number;
  readonly key: string | null;
  /** ms since 1970-01-01 UTC. */
  readonly time: number;
  readonly receivedAt: number;
  readonly headers: Headers;
  readonly payload: P;
}

/** One step of a chain: an event in, none, one or many out. Throws on an event that it cannot deal with. */
export interface Step {
  process(event: Event): readonly Event[];
}

export interface HandlerContext {
  /** Transactional with the batch; sees its own uncommitted writes. */
  readonly state: {
    get(key: string): Promise<unknown>;
    /** `value` is anything that JSON can hold, at most 64 KiB of it. */
    put(key: string, value: unknown): void;
    delete(key: string): void;
  };
  /** Emits into a stream, in the same unit of work. `payload` is an object for JSON, a string, or bytes. */
  emit(
    stream: string,
    payload: unknown,
    options?: { key?: string; time?: number; headers?: Headers },
  ): void;
  readonly log: Log;
  /** 1 on the first attempt. */
  readonly attempt: number;
  /** Aborted when the batch's time is up or the agent stops. */
  readonly signal: AbortSignal;
}

/**
 * A handler module's default export. What it returns is emitted to the processor's `to`: nothing, one payload,
 * or an array of payloads.
 */
export type Handler = (event: Event, context: HandlerContext) => unknown;

/** What a library worker's handler is given and gives back. */
import type { Log } from "../core/context.ts";
import type { TraceHeaders } from "../wire/wire.ts";

/** An event as a worker's handler sees it: the payload has passed the schema. */
export interface StreamEvent<P = unknown> {
  /** The event's own: as its sender gave it, or else the entry's. */
  readonly id: string;
  /** The entry's ID in its stream, `ms-n`. */
  readonly entryId: string;
  readonly topic: string;
  /** Its kind, as its sender says; null: it does not. */
  readonly type: string | null;
  readonly key: string | null;
  /** ms since 1970-01-01 UTC: as its sender says, or else when the server took it. */
  readonly time: number;
  readonly payload: P;
}

export interface EmitOptions {
  readonly type?: string;
  readonly key?: string;
  /** ms since 1970-01-01 UTC; left out: now. */
  readonly time?: number;
}

export interface StreamContext {
  /** Transactional with the batch; sees its own uncommitted writes. */
  readonly state: {
    get(key: string): Promise<unknown>;
    /** `value` is anything that JSON can hold, at most 64 KiB of it; `ttlMs`: how long it counts. */
    put(key: string, value: unknown, options?: { readonly ttlMs?: number }): void;
    delete(key: string): void;
  };
  /** Emits into a topic, together with what else the batch did, or not at all. */
  readonly emit: (topic: string, payload: unknown, options?: EmitOptions) => void;
  /** The event came too late to be counted: it moves to `{topic}-late` when the batch is committed. */
  readonly late: () => void;
  readonly topic: string;
  readonly group: string;
  readonly key: string | null;
  /** 1 on the first attempt. */
  readonly attempt: number;
  /** W3C trace context of the handling: what is emitted carries it on. */
  readonly trace: TraceHeaders;
  readonly log: Log;
  /** Aborted when its time is up, or the worker is forced to stop. */
  readonly signal: AbortSignal;
}

export type EventHandler<P> = (event: StreamEvent<P>, context: StreamContext) => unknown;

/**
 * All events or none: when it throws, the batch is halved until the one that it fails on is alone, and the others
 * are run again without it. `late()` says it of all of them; `key` and `attempt` are the first one's.
 */
export type BatchHandler<P> = (
  events: readonly StreamEvent<P>[],
  context: StreamContext,
) => unknown;

export type Handling<P> =
  | { readonly kind: "event"; readonly handler: EventHandler<P> }
  | { readonly kind: "batch"; readonly handler: BatchHandler<P> };

/** What a subscription asks for, and the worker that it becomes. */
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Delivery, Membership, StreamBackend } from "./backend.ts";
import type { Committer } from "./committer.ts";
import { idMs } from "./entry-id.ts";
import { checkEvent, type Schema } from "./event-schema.ts";
import { Execution, type ExecutionParts, type RunItem } from "./execution.ts";
import { decodeEntry } from "../wire/encodings.ts";
import { deadLetterTopic, lateTopic } from "./topic-names.ts";
import { deadLetterFields } from "../wire/dead-letter.ts";
import { WorkerFigures } from "./worker-figures.ts";
import type { Handling } from "./worker-handler.ts";
import { Worker } from "./worker.ts";

export interface SubscribeOptions<P = unknown> {
  /** Left out: the stream's. */
  readonly topic?: string;
  readonly group?: string;
  /** What an event must be; left out with another topic: anything. */
  readonly schema?: Schema<P>;
  /** This worker's name in the group; left out: HOST-1, HOST-2, …, the same after a restart. */
  readonly consumer?: string;
  /** Where a group that does not exist yet begins; default `start`. */
  readonly from?: "start" | "now" | Date;
  /** A field of the payload: events that share its value are handled one after the other, in order, by one worker at a time. */
  readonly key?: string;
  /** The most events of a batch (default 100), and how long it waits for a first one (default 1 s). */
  readonly batch?: { readonly max?: number; readonly waitMs?: number };
  /** Keys (without `key`: events) that are handled beside each other; default 1. */
  readonly concurrency?: number;
  /** For one call of the handler, default 30 s. What was pending longer than this is another worker's. */
  readonly timeoutMs?: number;
  /** How often an event is tried (default 5) and the delay between: `backoffMs` (default 1 s), doubled to `maxBackoffMs` (default 1 minute). */
  readonly retry?: {
    readonly attempts?: number;
    readonly backoffMs?: number;
    readonly maxBackoffMs?: number;
  };
  /** What becomes of one that failed so often, or does not fit the schema; default `dead-letter`. */
  readonly onFailure?: "dead-letter" | "drop";
  /** A worker that says nothing for so long is taken for dead; default 15 s. */
  readonly leaseMs?: number;
}

export interface SubscriptionParts {
  readonly topic: string;
  readonly group: string;
  readonly options: SubscribeOptions;
  readonly handling: Handling<never>;
  readonly backend: StreamBackend;
  readonly committer: Committer;
  readonly encode: ExecutionParts["encode"];
  readonly log: Log;
  readonly clock: Clock;
  readonly random: () => number;
}

export interface Subscription {
  readonly topic: string;
  readonly group: string;
  readonly worker: Worker;
  readonly figures: WorkerFigures;
}

export function createSubscription(parts: SubscriptionParts): Subscription {
  const { topic, group, options, backend, clock, log, handling } = parts;
  const figures = new WorkerFigures();
  const { batch = {}, retry = {}, timeoutMs = 30_000, leaseMs = 15_000 } = options;
  const isOrdered = options.key !== undefined;
  const execution = new Execution({
    topic,
    group,
    log,
    clock,
    handling,
    timeoutMs,
    isOrdered,
    concurrency: checked("concurrency", options.concurrency ?? 1, 1, 1_000),
    encode: parts.encode,
  });
  const membership: Membership = {
    topic,
    group,
    leaseMs: checked("leaseMs", leaseMs, 100, 3_600_000),
    from: options.from instanceof Date ? options.from.getTime() : (options.from ?? "start"),
    ...(options.consumer !== undefined && { consumer: options.consumer }),
    ...(options.key !== undefined && { keyField: options.key }),
  };
  const worker = new Worker({
    topic,
    group,
    log,
    clock,
    execution,
    figures,
    isOrdered,
    leaseMs,
    random: parts.random,
    committer: parts.committer,
    join: () => backend.join(membership),
    batchMax: checked("batch.max", batch.max ?? 100, 1, 10_000),
    waitMs: batch.waitMs ?? 1_000,
    timeoutMs: checked("timeoutMs", timeoutMs, 1, 86_400_000),
    retry: {
      attempts: checked("retry.attempts", retry.attempts ?? 5, 1, 1_000),
      baseMs: retry.backoffMs ?? 1_000,
      maxMs: retry.maxBackoffMs ?? 60_000,
    },
    onFailure: options.onFailure ?? "dead-letter",
    decode: (delivery) => decode(delivery, topic, options),
    deadLetter: (entry, error, attempts) =>
      deadLetterFields(entry.fields, {
        topic,
        group,
        attempts,
        id: entry.id,
        error: messageFor(error),
        stack: stackOf(error),
        movedMs: clock.wallMs(),
        firstMs: entry.firstMs ?? clock.wallMs(),
      }),
    lateFields: (entry) => entry.fields,
    deadLetterTopic: deadLetterTopic(topic),
    lateTopic: lateTopic(topic),
  });
  return { topic, group, worker, figures };
}

function decode(
  { id, fields }: Delivery,
  topic: string,
  { schema, key: keyField }: SubscribeOptions,
): Omit<RunItem, "attempt"> {
  const incoming = decodeEntry(fields);
  const payload = schema === undefined ? incoming.payload : checkEvent(schema, incoming);
  return {
    trace: incoming.trace,
    event: {
      id: incoming.id ?? id,
      entryId: id,
      topic,
      type: incoming.type,
      key: keyField === undefined ? incoming.key : (keyOf(payload, keyField) ?? incoming.key),
      time: incoming.time ?? idMs(id),
      payload,
    },
  };
}

/** A key's value as text; null: there is none. */
export function keyOf(payload: unknown, field: string): string | null {
  if (typeof payload !== "object" || payload === null || !Object.hasOwn(payload, field))
    return null;
  const value = (payload as Record<string, unknown>)[field];
  if (value === undefined || value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}

function checked(name: string, value: number, min: number, max: number): number {
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  throw new HoldfastError("STREAM_INVALID", `${name} must be ${min} to ${max}: it is ${value}`);
}

/** As PSPF writes it: the kind, a colon, the message. */
function messageFor(error: HoldfastError): string {
  const cause = error.cause instanceof Error ? error.cause : null;
  return cause === null ? `${error.code}: ${error.message}` : `${cause.name}: ${cause.message}`;
}

function stackOf(error: HoldfastError): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return cause.stack ?? "";
}

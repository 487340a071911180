/** The library: what a handler module or a worker of one's own imports. */
import type {
  BatchHandler as BatchModule,
  Event,
  Handler,
  HandlerContext,
} from "./processor/processor.ts";

export type { Event, Handler, HandlerContext };
export type { Log, LogFields } from "./core/context.ts";
export type { Headers, StoredEvent } from "./core/event.ts";
export { HoldfastError, type ErrorCode } from "./core/errors.ts";
export { Steps, type GivenEvent, type StepsOptions, type StepsOutcome } from "./processor/steps.ts";
export { MemoryStore } from "./state/memory.ts";
export { RocksDbStore, type RocksDbStoreOptions } from "./state/rocksdb.ts";
export { SqliteStore } from "./state/sqlite.ts";
export type { WorkerStore } from "./state/state.ts";
export type { StreamBackend } from "./stream/backend.ts";
export type { DeadLetters, ListedDeadLetter } from "./stream/dead-letters.ts";
export type { Schema } from "./stream/event-schema.ts";
export { MemoryBackend } from "./stream/memory.ts";
export { Stream, type StreamOptions } from "./stream/stream.ts";
export type { StreamHealth, SubscriptionHealth } from "./stream/stream-health.ts";
export type { SubscribeOptions } from "./stream/subscription.ts";
export { ValkeyBackend } from "./stream/valkey.ts";
export type {
  BatchHandler,
  EventHandler,
  StreamContext,
  StreamEvent,
} from "./stream/worker-handler.ts";

/**
 * Types a handler module's default export, for one event or for a batch; it gives back what it is given. `P` is the
 * payload's type, which the stream's schema has checked.
 */
export function defineHandler<P = unknown>(
  handler: (event: Event<P>, context: HandlerContext) => unknown,
): Handler;
export function defineHandler<P = unknown>(handler: {
  readonly batch: (events: readonly Event<P>[], context: HandlerContext) => unknown;
}): BatchModule;
export function defineHandler(handler: unknown): unknown {
  return handler;
}

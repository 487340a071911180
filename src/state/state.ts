/**
 * State is what a processor remembers between events: small values by key, in a space of its own.
 *
 * A store promises that `get` tells the value of the last unit of work that was committed, or null. It promises
 * nothing about writes: those belong to the unit of work and become durable with its cursor, or not at all
 * (invariant 4). In the agent the store is the journal.
 */
export interface StateStore {
  /** The committed value's bytes, null when there is none. `space` is the processor's name. */
  get(space: string, key: string): Promise<Uint8Array | null>;
}

/** A store that can also be looked through. */
export interface ListedStore extends StateStore {
  /** Committed values whose keys come behind `after`, in the order of the keys, at most `limit`. */
  list(
    space: string,
    after: string,
    limit: number,
  ): Promise<readonly { readonly key: string; readonly value: Uint8Array }[]>;
}

/** One write of a unit of work; null deletes. */
export interface StateWrite {
  readonly space: string;
  readonly key: string;
  readonly value: Uint8Array | null;
}

/**
 * The largest value, bytes: 64 KiB, the promise of HandlerContext.state. With at most 10,000 events in a batch a
 * unit of work stays what one transaction can hold. Kept in processor/batch-processor.ts.
 */
export const stateBytesMax = 64 * 1024;

/** The longest key, characters: it is a database key, and 512 holds any topic that is worth one. */
export const stateKeyMax = 512;

/** A write of a library worker: as above, and perhaps an end. */
export interface ExpiringWrite extends StateWrite {
  /** ms since 1970-01-01 UTC after which the value is as if it were not there; left out: none. */
  readonly expiresAt?: number;
}

/** What a unit of work read of the state: it holds only if that is still so. */
export interface StateRead {
  readonly space: string;
  readonly key: string;
  readonly value: Uint8Array | null;
}

/** An event that a unit of work emitted, as it will lie in its stream: name, value, name, value … */
export interface OutboxEvent {
  readonly topic: string;
  readonly fields: readonly (string | Uint8Array)[];
}

/** All that one batch of a library worker did, to be durable together or not at all. */
export interface WorkerUnit {
  /** Whose positions: the stream's incarnation, the group and the topic. */
  readonly scope: string;
  /** IDs (`ms-n`) that are dealt with by this unit, in the order of the stream. Nothing else is marked. */
  readonly done: readonly string[];
  readonly reads: readonly StateRead[];
  readonly writes: readonly ExpiringWrite[];
  readonly emits: readonly OutboxEvent[];
}

/**
 * - `committed`: all of it is durable.
 * - `repeated`: nothing of it happened, since these IDs were dealt with before (by a worker that died before it could
 *   acknowledge them, say): acknowledge them, run the others again.
 * - `conflict`: nothing of it happened, since another worker has changed what it had read: run it again.
 */
export type WorkerCommit =
  | { readonly result: "committed" }
  | { readonly result: "repeated"; readonly ids: readonly string[] }
  | { readonly result: "conflict" };

/** Rows of the outbox in the order of their commits; `n` counts up by commits and is never used twice. */
export interface OutboxRow extends OutboxEvent {
  readonly n: number;
}

/** What a group's server says of it, for forgetting positions that no longer matter one by one. */
export interface GroupProgress {
  /** Everything up to here has been handed out (`ms-n`). */
  readonly lastDelivered: string;
  /** All that was handed out and not acknowledged, in order. What is neither here nor beyond is dealt with. */
  readonly pending: readonly string[];
}

/**
 * Where the workers of a group keep state, positions and outbox. The workers of one host share one store (SQLite);
 * it promises that two units that touch the same state, or the same event, do not both happen.
 *
 * Positions are ranges of IDs, never one high-water mark: an event that failed stays outside while those behind it
 * are marked, and comes back. IDs are compared as numbers. `scope` carries the stream's incarnation, so that a
 * stream that was made anew, perhaps by a clock that is behind, begins with no positions.
 */
export interface WorkerStore extends StateStore {
  /** This store's identity for ever (a UUID): the outbox's rows are named by it and `n`. */
  readonly id: string;
  open(): Promise<void>;
  /** May be called twice, and after a failed open. */
  close(): Promise<void>;
  commit(unit: WorkerUnit): Promise<WorkerCommit>;
  /** Which of these were dealt with before. */
  isDone(scope: string, ids: readonly string[]): Promise<ReadonlySet<string>>;
  /** Rows with `n` > `after`, oldest first, at most `max`. */
  readOutbox(after: number, max: number): Promise<readonly OutboxRow[]>;
  /** The rows up to `n` are in their streams. */
  releaseOutbox(n: number): Promise<void>;
  /** Makes few ranges of many: everything up to `lastDelivered` that is not pending is dealt with. */
  compact(scope: string, progress: GroupProgress): Promise<void>;
  /**
   * A replay: under `next`, what lies from `from` on (`ms-n`) is to be dealt with again. What `scope` holds before it
   * counts there too, also what a worker that has not heard of it yet commits later.
   */
  rewind(scope: string, from: string, next: string): Promise<void>;
}

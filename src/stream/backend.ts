/**
 * A backend keeps topics and hands their entries to consumer groups: Valkey Streams, process memory, or your own.
 *
 * It promises:
 * - What `append` resolved for is stored (as durably as the server is set up), in the order of the calls, once: an
 *   append whose answer was lost is repeated under the same name (`Producer`), and what is there is skipped.
 * - An entry that was handed out is pending until `settle` ends it. Pending entries are handed out again: to the
 *   member that had them when it comes back, or to another when they have lain longer than a handler may take.
 * - `settle` ends an entry in one step with all that is said of it (its dead letter, its failures), and only if it is
 *   still pending; who comes second is told.
 *
 * It does not promise that an entry is handed out once. That its effects happen once is made by the store that a
 * group shares (state/state.ts), or by `settle` itself where state lies in the backend (`keepsState`).
 *
 * Errors are HoldfastErrors: `transient` ones (a server that restarts, a failover, no memory left) are for the caller
 * to try again with back-off; anything else ends the subscription.
 */
import type { ExpiringWrite, GroupProgress, OutboxEvent, StateRead } from "../state/state.ts";
import type { EncodedFields, Fields } from "../wire/wire.ts";

export interface Entry {
  /** `ms-n`, as the server gives it; compared as two numbers, never as text. */
  readonly id: string;
  readonly fields: Fields;
}

export interface Delivery extends Entry {
  /** How often it was handed out, 1 at first; beyond that its former worker died or forgot it. */
  readonly deliveries: number;
  /** How often it has failed, durably counted. */
  readonly failures: number;
}

/** Names what is appended, so that repeating it is harmless: `n` counts up and is never used for two entries. */
export interface Producer {
  readonly id: string;
  /** `n` of the first of the entries; those behind count on from it, unless `ns` says otherwise. */
  readonly first: number;
  readonly ns?: readonly number[];
}

export interface AppendOptions {
  /** The most entries that the topic may hold; what some group has not read yet is never trimmed for it. */
  readonly maxLength?: number;
  readonly producer?: Producer;
}

export interface Membership {
  readonly topic: string;
  readonly group: string;
  /** The member's name; left out: the backend finds a free one that is the same after a restart. */
  readonly consumer?: string;
  /** Where a group that does not exist yet begins: the first entry, only what is appended from now on, or a time (ms). */
  readonly from: "start" | "now" | number;
  /** With a field's name, entries that share its value go to one member at a time, in order. */
  readonly keyField?: string;
  /** A member that says nothing for so long is taken for dead, ms. */
  readonly leaseMs: number;
}

export interface Batch {
  /**
   * The identity of the topic's and the group's life: another one where either was made anew. Positions are kept
   * under it.
   */
  readonly incarnation: string;
  readonly deliveries: readonly Delivery[];
  /** Keys were dealt out anew (with `keyField`): what of earlier batches is this member's still is given again, from here on. */
  readonly dealtAnew: boolean;
  /** Keys of which this member may have something under way are another's now: see `handOver`. */
  readonly isHandingOver: boolean;
}

/** All that is said of some pending entries, to happen in one step. */
export interface Settlement {
  /** Dealt with. */
  readonly done: readonly string[];
  /** Failed once more; stays pending. `failures` is the count that it has now. */
  readonly failed: readonly { readonly id: string; readonly failures: number }[];
  /** Moved to another topic (dead letters, late events) and dealt with; `isHandled`: what its handler did stands. */
  readonly moved: readonly {
    readonly id: string;
    readonly topic: string;
    readonly fields: EncodedFields;
    readonly isHandled?: true;
  }[];
  /** Where state lies in the backend: what the unit read, wrote and emitted, together with the rest or not at all. */
  readonly effects?: {
    readonly reads: readonly StateRead[];
    readonly writes: readonly ExpiringWrite[];
    readonly emits: readonly OutboxEvent[];
  };
}

/**
 * `settled`: it happened; `lost` were not this member's any more and nothing was done about them. With effects it is
 * all or nothing: `refused`, nothing happened, since `lost` are not this member's any more, or (none is lost) since
 * what was read has changed.
 */
export interface SettleResult {
  readonly result: "settled" | "refused";
  readonly lost: readonly string[];
}

/** One worker's place in a group. Its calls are made by one loop; `read` may wait while others go on. */
export interface Member {
  readonly consumer: string;
  readonly incarnation: string;
  /**
   * What this name had pending when it came back, oldest first, `after` an ID; with `keyField` `read` gives that, since it may
   * have to wait for a hand-over.
   */
  recover(after: string, max: number): Promise<Batch>;
  /**
   * The next entries; waits up to `waitMs` for a first one. Nothing is taken once `signal` is aborted. `fromStart` (with
   * `keyField`): all that is pending for this member is given again, the oldest first.
   */
  read(max: number, waitMs: number, signal: AbortSignal, fromStart?: boolean): Promise<Batch>;
  /**
   * Gives up what is not under way of the keys that the last read said are to be handed over, and all of them once nothing
   * that was under way is left. Does nothing where keys were dealt out anew since that read.
   */
  handOver(underWay: readonly string[]): Promise<void>;
  /** Takes over what has been pending for `idleMs`, whoever had it. */
  reclaim(idleMs: number, max: number): Promise<Batch>;
  /** Says that these are held still; gives those that are not this member's any more. */
  renew(ids: readonly string[]): Promise<readonly string[]>;
  settle(settlement: Settlement): Promise<SettleResult>;
  /** A committed state value, where state lies in the backend. */
  readState(space: string, key: string): Promise<Uint8Array | null>;
  /** At most `max` pending IDs; null when there are more. */
  progress(max: number): Promise<GroupProgress | null>;
  /** Removes members that have nothing pending and have not been heard of for `deadMs`. */
  prune(deadMs: number): Promise<void>;
  /** Entries that the group has not dealt with: not handed out yet, and pending. null: the server cannot say. */
  lag(): Promise<{ readonly waiting: number | null; readonly pending: number }>;
  /** Gives up its place; pending entries stay pending. May be called twice. */
  leave(): Promise<void>;
}

export interface StreamBackend {
  /** What it is, for people: `valkey at 127.0.0.1:6379`, `memory`. */
  readonly description: string;
  /** Whether `settle` takes effects. */
  readonly keepsState: boolean;
  open(): Promise<void>;
  /** May be called twice, and after a failed open. */
  close(): Promise<void>;
  /** IDs in the order of the entries; null for one that was there already. */
  append(
    topic: string,
    entries: readonly EncodedFields[],
    options?: AppendOptions,
  ): Promise<readonly (string | null)[]>;
  join(membership: Membership): Promise<Member>;
  /** Entries `from` an ID or time on, oldest first: no group takes part. */
  range(topic: string, from: string, max: number): Promise<readonly Entry[]>;
  /**
   * Sets a group back (or forward): its members read again from there, `ms-n` inclusive, under a new incarnation, so
   * that positions of before do not hold there.
   */
  rewind(topic: string, group: string, from: string, incarnation: string): Promise<void>;
  /** In one step: appends `fields` to `to` and removes the entry from `topic`; false when it was gone. */
  move(topic: string, id: string, to: string, fields: EncodedFields): Promise<boolean>;
  remove(topic: string, ids: readonly string[]): Promise<number>;
  length(topic: string): Promise<number>;
}

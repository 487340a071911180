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

/** One write of a unit of work; null deletes. */
export interface StateWrite {
  readonly space: string;
  readonly key: string;
  readonly value: Uint8Array | null;
}

/**
 * The largest value, bytes: 64 KiB, the promise of HandlerContext.state. With at most 10,000 events in a batch a
 * unit of work stays what one transaction can hold. Kept in stream/batch-processor.ts.
 */
export const stateBytesMax = 64 * 1024;

/** The longest key, characters: it is a database key, and 512 holds any topic that is worth one. */
export const stateKeyMax = 512;

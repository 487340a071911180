/**
 * What a batch has done so far and nobody has made durable yet.
 *
 * Two layers over the committed state: the batch's own writes, and above them those of the event that is being
 * run. An event that ends well merges its layer into the batch's; one that fails leaves nothing. Where events of one
 * batch run beside each other, one that read what another has changed since is told so (`keep`) and runs again.
 *
 * Bounds: an event may emit `emitsMax` events and `emitBytesMax` bytes, kept in `emitted`; the batch ends early
 * once it is past `batchBytesMax`, so that a unit of work stays what memory and one transaction can hold.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { stateBytesMax, stateKeyMax } from "./state.ts";

/** The most events that one event may become: a handler that goes past this loops. */
export const emitsMax = 10_000;
/** The most bytes that one event may become: eight events of the largest size (1 MiB, flow/admit.ts). */
export const emitBytesMax = 8 * 1024 * 1024;
/** Past this the batch ends early and the rest of it is the next one, bytes. */
const batchBytesMax = 4 * 1024 * 1024;

type ReadState = (key: string) => Promise<Uint8Array | null>;

/** A value to be, null: none; with an end (ms since 1970) where it has one. */
export interface Write {
  readonly value: Uint8Array | null;
  readonly expiresAt?: number;
}

/** `E` is whatever the loop makes of an emitted event. */
export class BatchEffects<E> {
  readonly emits: E[] = [];
  readonly #readCommitted: ReadState;
  readonly #writes = new Map<string, Write>();
  /** How often the batch has written a key, for those that run beside each other. */
  readonly #versions = new Map<string, number>();
  /** What the store told during this batch. */
  readonly #reads = new Map<string, Uint8Array | null>();
  #bytes = 0;

  constructor(readCommitted: ReadState) {
    this.#readCommitted = readCommitted;
  }

  get isFull(): boolean {
    return this.#bytes >= batchBytesMax;
  }

  writes(): { key: string; value: Uint8Array | null; expiresAt?: number }[] {
    return [...this.#writes].map(([key, write]) => ({ key, ...write }));
  }

  /** What the batch read of the committed state, and what it must still be when the batch is committed. */
  reads(): { key: string; value: Uint8Array | null }[] {
    return [...this.#reads].map(([key, value]) => ({ key, value }));
  }

  /** The layer of the next event. */
  begin(): EventEffects<E> {
    return new EventEffects<E>(
      (key) => this.#read(key),
      (key) => this.#versions.get(key) ?? 0,
      () => this.#writes.keys(),
    );
  }

  /** The event ended well: what it did is the batch's. False: what it had read has changed meanwhile. */
  keep(effects: EventEffects<E>): boolean {
    for (const [key, version] of effects.seen) {
      if ((this.#versions.get(key) ?? 0) !== version) return false;
    }
    for (const emit of effects.emits) this.emits.push(emit);
    for (const [key, write] of effects.writes) {
      this.#writes.set(key, write);
      this.#versions.set(key, (this.#versions.get(key) ?? 0) + 1);
      this.#bytes += write.value?.length ?? 0;
    }
    this.#bytes += effects.bytes;
    return true;
  }

  async #read(key: string): Promise<Uint8Array | null> {
    const written = this.#writes.get(key);
    if (written !== undefined) return written.value;
    const known = this.#reads.get(key);
    if (known !== undefined) return known;
    const found = await this.#readCommitted(key);
    // Whoever asked at the same time has perhaps been told already: a batch sees one value.
    const first = this.#reads.get(key);
    if (first !== undefined) return first;
    this.#reads.set(key, found);
    this.#bytes += found?.length ?? 0;
    return found;
  }
}

interface EffectsMark {
  readonly emits: number;
  readonly bytes: number;
  readonly writes: ReadonlyMap<string, Write>;
}

/** What one event has done. Once closed it takes nothing more: a handler that runs on has no effects. */
export class EventEffects<E> {
  readonly emits: E[] = [];
  readonly writes = new Map<string, Write>();
  /** Keys that were read, with the batch's version of each at that time. */
  readonly seen = new Map<string, number>();
  bytes = 0;
  isClosed = false;
  readonly #readBelow: ReadState;
  readonly #versionBelow: (key: string) => number;
  /** Keys that earlier events of the batch have written. */
  readonly writtenBelow: () => Iterable<string>;

  constructor(
    readBelow: ReadState,
    versionBelow: (key: string) => number,
    writtenBelow: () => Iterable<string>,
  ) {
    this.writtenBelow = writtenBelow;
    this.#readBelow = readBelow;
    this.#versionBelow = versionBelow;
  }

  /**
   * `bytes`: the payload's.
   * @throws HoldfastError HANDLER_FAILED when the event would become more than one event may
   */
  emitted(emit: E, bytes: number): void {
    if (this.emits.length >= emitsMax) {
      throw refused(`One event emitted more than ${emitsMax} events`);
    }
    this.bytes += bytes;
    if (this.bytes > emitBytesMax) {
      throw refused(`One event emitted more than ${emitBytesMax} bytes`);
    }
    this.emits.push(emit);
  }

  /** How far it has come, for `rewind`. */
  mark(): EffectsMark {
    return { emits: this.emits.length, bytes: this.bytes, writes: new Map(this.writes) };
  }

  /** What was done since is taken back. */
  rewind({ emits, bytes, writes }: EffectsMark): void {
    this.emits.length = emits;
    this.bytes = bytes;
    this.writes.clear();
    for (const [key, write] of writes) this.writes.set(key, write);
  }

  /** Keys that were read and had a value. */
  readonly found = new Set<string>();

  async get(key: string): Promise<unknown> {
    const own = this.writes.get(checkedKey(key));
    if (own === undefined && !this.seen.has(key)) this.seen.set(key, this.#versionBelow(key));
    const bytes = own === undefined ? await this.#readBelow(key) : own.value;
    if (bytes !== null) this.found.add(key);
    return bytes === null ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as unknown);
  }

  put(key: string, value: unknown, expiresAt?: number): void {
    const write = { value: encodeState(key, value), ...(expiresAt !== undefined && { expiresAt }) };
    this.writes.set(checkedKey(key), write);
  }

  delete(key: string): void {
    this.writes.set(checkedKey(key), { value: null });
  }
}
function checkedKey(key: string): string {
  if (key !== "" && key.length <= stateKeyMax) return key;
  throw refused(`A state key must be text of 1 to ${stateKeyMax} characters: ${key.slice(0, 80)}`);
}

function encodeState(key: string, value: unknown): Uint8Array {
  let json: string | undefined;
  try {
    json = JSON.stringify(value) as string | undefined;
  } catch (cause) {
    throw refused(`Cannot keep state ${key}: ${messageOf(cause)}`, cause);
  }
  if (json === undefined) throw refused(`Cannot keep state ${key}: ${typeof value} is not JSON`);
  const bytes = Buffer.from(json);
  if (bytes.length <= stateBytesMax) return bytes;
  throw refused(
    `Cannot keep state ${key}: ${bytes.length} bytes, at most ${stateBytesMax} are allowed`,
  );
}

function refused(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("HANDLER_FAILED", message, { cause });
}

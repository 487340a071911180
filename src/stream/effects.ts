/**
 * What a batch has done so far and nobody has made durable yet.
 *
 * Two layers over the committed state: the batch's own writes, and above them those of the event that is being
 * run. An event that ends well merges its layer into the batch's; one that fails leaves nothing.
 *
 * Bounds: an event may emit `emitsMax` events and `emitBytesMax` bytes, kept in `emitted`; the batch ends early
 * once it is past `batchBytesMax`, so that a unit of work stays what memory and one transaction can hold.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { NewEvent } from "../core/event.ts";
import { stateBytesMax, stateKeyMax, type StateStore, type StateWrite } from "../state/state.ts";

/** The most events that one event may become: a handler that goes past this loops. */
export const emitsMax = 10_000;
/** The most bytes that one event may become: eight events of the largest size (1 MiB, flow/admit.ts). */
export const emitBytesMax = 8 * 1024 * 1024;
/** Past this the batch ends early and the rest of it is the next one, bytes. */
const batchBytesMax = 4 * 1024 * 1024;

export interface Emit {
  readonly stream: string;
  readonly event: NewEvent;
}

export class BatchEffects {
  readonly emits: Emit[] = [];
  readonly #store: StateStore;
  readonly #space: string;
  readonly #writes = new Map<string, Uint8Array | null>();
  /** What the store told during this batch; nobody else writes into the space meanwhile. */
  readonly #reads = new Map<string, Uint8Array | null>();
  #bytes = 0;

  constructor(store: StateStore, space: string) {
    this.#store = store;
    this.#space = space;
  }

  get isFull(): boolean {
    return this.#bytes >= batchBytesMax;
  }

  state(): StateWrite[] {
    return [...this.#writes].map(([key, value]) => ({ space: this.#space, key, value }));
  }

  /** The layer of the next event. */
  begin(): EventEffects {
    return new EventEffects((key) => this.#read(key));
  }

  /** The event ended well: what it did is the batch's. */
  keep(effects: EventEffects): void {
    for (const emit of effects.emits) this.emits.push(emit);
    for (const [key, value] of effects.writes) {
      this.#writes.set(key, value);
      this.#bytes += value?.length ?? 0;
    }
    this.#bytes += effects.bytes;
  }

  async #read(key: string): Promise<Uint8Array | null> {
    const written = this.#writes.get(key);
    if (written !== undefined) return written;
    const known = this.#reads.get(key);
    if (known !== undefined) return known;
    const found = await this.#store.get(this.#space, key);
    this.#reads.set(key, found);
    this.#bytes += found?.length ?? 0;
    return found;
  }
}

/** What one event has done. Once closed it takes nothing more: a handler that runs on has no effects. */
export class EventEffects {
  readonly emits: Emit[] = [];
  readonly writes = new Map<string, Uint8Array | null>();
  bytes = 0;
  isClosed = false;
  readonly #readBelow: (key: string) => Promise<Uint8Array | null>;

  constructor(readBelow: (key: string) => Promise<Uint8Array | null>) {
    this.#readBelow = readBelow;
  }

  /** @throws HoldfastError HANDLER_FAILED when the event would become more than one event may */
  emitted(stream: string, event: NewEvent): void {
    if (this.emits.length >= emitsMax) {
      throw refused(`One event emitted more than ${emitsMax} events`);
    }
    this.bytes += event.payload.length;
    if (this.bytes > emitBytesMax) {
      throw refused(`One event emitted more than ${emitBytesMax} bytes`);
    }
    this.emits.push({ stream, event });
  }

  async get(key: string): Promise<unknown> {
    const own = this.writes.get(checkedKey(key));
    const bytes = own === undefined ? await this.#readBelow(key) : own;
    return bytes === null ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as unknown);
  }

  put(key: string, value: unknown): void {
    this.writes.set(checkedKey(key), encodeState(key, value));
  }

  delete(key: string): void {
    this.writes.set(checkedKey(key), null);
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

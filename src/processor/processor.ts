/**
 * A processor turns batches into effects: steps from the configuration, then perhaps a handler module.
 *
 * Steps and handlers are pure of durability: what they emit, put into state or refuse becomes durable together
 * with the cursor, in one unit of work (flow/process.ts), or not at all.
 */
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import type { ClockQuality, Headers } from "../core/event.ts";

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
  /** How far the clock could be trusted when it was received; left out: as far as any. */
  readonly clock?: ClockQuality;
}

/**
 * One step of a chain. It runs to its end at once, changes neither the event nor its payload, and remembers
 * nothing but in the tables of its tools: what it did for an event that fails behind it is taken back.
 */
export interface Step {
  /** An event in, none, one or many out. Throws on an event that it cannot deal with. */
  process(event: Event): readonly Event[];
  /** How long `stream` must be silent, at its head, for `idle` to have something to do, ms; null: it has nothing. */
  idleAfterMs?(stream: string): number | null;
  /** `stream` has been silent that long: what comes of it. */
  idle?(stream: string): readonly Event[];
  /** Its tables are not what they were: rows were loaded, or changes taken back. */
  refresh?(): void;
  /** @throws HoldfastError of kind config when what it needs from outside is not there */
  open?(): Promise<void>;
  close?(): void;
}

/**
 * What a step remembers: rows by key, least recently written first. A row is replaced, never changed, and is what
 * JSON can hold. The bound is the table's: past it the oldest row is given back to make room.
 */
export interface Table<Row> {
  readonly size: number;
  get(key: string): Row | undefined;
  /** Gives back what had to go for it, which is counted as evicted. */
  set(key: string, row: Row): readonly [key: string, row: Row] | null;
  delete(key: string): void;
  entries(): Iterable<readonly [key: string, row: Row]>;
}

/** What a step is made with. */
export interface StepTools {
  /** The step's one table, of at most `rowsMax` rows; by `ageOf` they stand in order again after a restart. */
  table<Row>(rowsMax: number, ageOf?: (row: Row) => number): Table<Row>;
  /** Puts an event into another stream than the chain's, in the same unit of work. */
  emit(stream: string, event: Event): void;
  count(what: StepCount, count: number): void;
  /** The streams that the chain reads; null: nobody says. */
  readonly streams: readonly string[] | null;
  readonly clock: Clock;
  readonly log: Log;
  /** What the paths of files are relative to. */
  readonly baseDir: string;
}

/** `late`: events behind the watermark; `evicted`: rows that had to go before their time. */
export type StepCount = "late" | "evicted";

/** What a chain made of one event. */
export interface Passed {
  readonly event: Event;
  /** It is made of many events: that it fails behind the chain is not the fault of the one that let it go. */
  readonly isGathered: boolean;
}

export interface ChainOutcome {
  readonly passed: readonly Passed[];
  readonly emits: readonly { readonly stream: string; readonly event: Event }[];
  /** Gathered events that a later step could not deal with. */
  readonly refused: readonly { readonly event: Event; readonly error: HoldfastError }[];
}

export interface ChainWrite {
  readonly space: string;
  readonly key: string;
  /** null deletes. */
  readonly value: Uint8Array | null;
}

/**
 * The steps of a processor, one behind the other, and what they remember.
 *
 *   load ──► process ──► keep ──► … ──► takeWrites ──► durable, next batch
 *               └──► undo: as if the event had not been there
 *
 * All that its steps remember is in memory, bounded by their tables, and is loaded anew whenever a unit of work
 * did not become durable.
 */
export interface Chain {
  /** Of the state that its steps keep. */
  readonly spaces: readonly string[];
  /** Some step goes by the time of events, which an unset clock may have given. */
  readonly needsTime: boolean;
  open(): Promise<void>;
  close(): void;
  /** Forgets everything; `load` brings it back, space by space, in any number of parts, then `loaded`. */
  clear(): void;
  load(space: string, rows: readonly { readonly key: string; readonly value: Uint8Array }[]): void;
  loaded(): void;
  process(event: Event): ChainOutcome;
  idleAfterMs(stream: string): number | null;
  idle(stream: string): ChainOutcome;
  /** What was done since the last call of either stands. */
  keep(): void;
  undo(): void;
  /** What changed since the last call, encoded. */
  takeWrites(): ChainWrite[];
  takeCounts(): readonly {
    readonly step: string;
    readonly what: StepCount;
    readonly count: number;
  }[];
  figures(): readonly { readonly step: string; readonly rows: number }[];
}

export interface HandlerContext {
  /** Transactional with the batch; sees its own uncommitted writes. */
  readonly state: {
    get(key: string): Promise<unknown>;
    /**
     * `value` is anything that JSON can hold, at most 64 KiB of it. `ttlMs`: it is as if it were not there after so long
     * by this device's clock.
     * @throws HoldfastError HANDLER_FAILED when the processor's state is at its bound
     */
    put(key: string, value: unknown, options?: { readonly ttlMs?: number }): void;
    delete(key: string): void;
    /** The keys that begin with `prefix` and their values, in order, at most 1,000. */
    scan(prefix: string): Promise<readonly { readonly key: string; readonly value: unknown }[]>;
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

/**
 * The other form of a default export: one call for all events of a batch that the steps let through, in order. What it
 * returns is emitted with the time and headers of the last of them. When it throws, the batch is run again on halves,
 * until the event that it fails on stands alone.
 */
export interface BatchHandler {
  readonly batch: (events: readonly Event[], context: HandlerContext) => unknown;
}

/**
 * A sink takes events upstream.
 *
 * It reports, the loop decides (flow/deliver.ts): back-off, retry, dead letters and stopping are not its
 * business. The loop calls `send` once at a time and moves the cursor only past what was confirmed.
 */
import type { Figures } from "../core/context.ts";
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { listOf, text } from "../core/field.ts";
import type { HoldfastError } from "../core/errors.ts";

export interface Sink {
  /**
   * Connects. `positions` says for each stream where the cursor stands and what `send` last left there.
   * Called again after any failure; may be called only after `close` or a rejected `open`.
   * @throws HoldfastError, `transient` when trying again may help, `config` when a person must act
   */
  open(positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void>;
  /**
   * Sends events of one stream, in order.
   * @throws HoldfastError if nothing may be taken as delivered
   */
  send(batch: Batch, signal: AbortSignal): Promise<SendResult>;
  /** May be called twice, and after a failed `open`. */
  close(): Promise<void>;
  /**
   * Gives a listener for a far side that goes away while nothing is being sent: the loop then says so and opens
   * again, and the next event need not wait for that. Without it the loss shows at the next `send`.
   */
  onLost?(listener: (error: HoldfastError) => void): void;
  /**
   * What the far side said on `open` that it holds of a stream, where it can say so: the loop compares that with the
   * journal (flow/handshake.ts) before it sends.
   */
  held?(stream: string): readonly Holding[];
  /**
   * The mark that makes a sink whose far side knows what it was sent send it once more from `from` on, under other
   * names. Without it a replay sends the same names again.
   */
  again?(mark: string | null, from: number): string;
  /** A stream's cursor, with its mark, is on disk: what only an older mark needed may go. */
  durable?(stream: string, position: Position): void;
  /** Asked before each `send`, by a sink whose far side knows a request which comes twice. */
  announce?(batch: Batch): Announcement;
  /** Its own, for health; read each time that health is shown. */
  figures?(): Figures;
}

export interface Position {
  /** The last seq that was confirmed; 0: none. */
  readonly seq: number;
  readonly mark: string | null;
}

/**
 * Seqs of one epoch that the far side was given, and the digest of the last of them (core/event-digest.ts); null: of
 * that last one none is known.
 */
export interface Holding {
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
  readonly digest: string | null;
}

export interface Batch {
  readonly device: string;
  readonly stream: string;
  readonly events: readonly StoredEvent[];
  /**
   * What lies between this seq and the last event, and is not among the events, will never come: the far side may
   * count it as held. Left out: nothing is known of what comes before the first event.
   */
  readonly after?: number;
  /** It drains beside fresher events, which may be there already. */
  readonly backfill?: boolean;
  /** What the stream says of its payloads; left out: not known. */
  readonly format?: PayloadFormat;
}

/** What was begun must be sent again as it was, also after a crash, whatever has come since. */
export interface Announcement {
  /** The batch must reach to this seq. */
  readonly upTo: number;
  /** Must be on disk before the batch is sent, with the cursor where it stands; left out: nothing must. */
  readonly mark?: string;
}

export interface SendResult {
  /** How many from the start of the batch the far side has or has refused: the cursor moves past these. */
  readonly settled: number;
  /** Those among them that it refused for good, by index. */
  readonly refused: readonly Refusal[];
  /** Kept with the cursor, at most 1 KiB; left out: as before. */
  readonly mark?: string;
  /** What it cost on the wire, as far as the sink knows, and what that was before it was compressed, bytes. */
  readonly wireBytes?: number;
  readonly plainBytes?: number;
  /** Why it stopped short of the whole batch. */
  readonly failure?: HoldfastError;
}

export interface Refusal {
  readonly index: number;
  readonly error: HoldfastError;
}

/** What every kind of sink lets the user say. */
export const sinkOptions = {
  from: listOf(text({ doc: "A stream" }), {
    doc: "The streams to deliver; the order is the priority",
    example: ["readings"],
    min: 1,
  }),
};

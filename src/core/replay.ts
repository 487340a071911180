/**
 * What is asked of a replay and what it says of itself, for whoever does it (flow/) and whoever asks (host/, cli/): of
 * a group that is set back in a stream, and of dead letters that go back to where they failed.
 */
import type { Headers } from "./event.ts";

export interface RewindOrder {
  readonly stream: string;
  /** The first event to be read again: a seq, or the first received at that time, ms. */
  readonly from: { readonly seq: number } | { readonly time: number };
  /** What becomes of what a processor remembers; null: nobody said. */
  readonly state: "keep" | "reset" | null;
  /** Of a sink: to a far side that has it already, under new names. */
  readonly again: boolean;
}

export interface RewindReport {
  /** The first that is read again. */
  readonly from: number;
  /** Where it stood. */
  readonly cursor: number;
  /** It is later than was asked for: what was before it is not kept any more. */
  readonly isShortened: boolean;
  /** Keys of state that were removed. */
  readonly removedKeys: number;
}

/** What is to stand in a letter's place; what is left out stays as it is. */
export interface LetterEdit {
  readonly id: number;
  readonly payload?: Uint8Array;
  readonly headers?: Headers;
  readonly key?: string | null;
  readonly time?: number;
}

export interface RedeliveryReport {
  readonly replayed: number;
  /** Those that stay letters, and why. */
  readonly refused: readonly {
    readonly id: number;
    readonly code: string;
    readonly reason: string;
  }[];
  /** The last that was looked at; null: there was none. */
  readonly last: number | null;
  /** A processor has no room for more now: ask again, later, for what comes after `last`. */
  readonly isFull: boolean;
}

export interface Redelivery {
  /** Letters of a stream beyond `after`, at most `limit`. */
  replay(stream: string, after: number, limit: number): Promise<RedeliveryReport>;
  /** Those named, with what is to stand in their place; one that is gone is passed over. */
  replayThese(stream: string, edits: readonly LetterEdit[]): Promise<RedeliveryReport>;
}

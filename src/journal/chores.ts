/**
 * Long work between turns: a compaction, or reading everything through. One at a time; what a crash called for gives
 * way to what was asked for, and is begun again after it.
 */
import { setImmediate } from "node:timers/promises";
import { HoldfastError } from "../core/errors.ts";
import type { Work } from "./journal.ts";

/** Progress is told this often, ms. */
const tellEveryMs = 1_000;

export interface Chore<Result> {
  /** Does one short piece; gives back the share that is done, 0 to 1, or null when only `finish` is left. */
  slice(): number | null;
  /** Between two pieces: waits for the disk, or for the sake of others. */
  settle(): Promise<void>;
  finish(): Result;
  /** Ends it before its end; nothing has happened. May be called twice. */
  abandon(): void;
}

export class Chores {
  readonly #tell: (what: Work, progress: number | null) => void;
  readonly #monotonicMs: () => number;
  #current: {
    readonly what: Work;
    readonly isAsked: boolean;
    readonly chore: Chore<unknown>;
  } | null = null;

  constructor(tell: (what: Work, progress: number | null) => void, monotonicMs: () => number) {
    this.#tell = tell;
    this.#monotonicMs = monotonicMs;
  }

  /**
   * Does it to its end; resolves with null where it was abandoned meanwhile.
   * @throws HoldfastError JOURNAL_BUSY while another that was asked for goes on; whatever the work throws
   */
  async run<Result>(
    what: Work,
    isAsked: boolean,
    begin: () => Chore<Result>,
  ): Promise<Result | null> {
    const before = this.#current;
    if (before?.isAsked === true || (before !== null && !isAsked))
      throw new HoldfastError("JOURNAL_BUSY", `The journal is busy with another ${before.what}`);
    this.abandon();
    const chore = begin();
    const mine = { what, isAsked, chore };
    this.#current = mine;
    let nextTellMs = 0;
    try {
      for (;;) {
        const progress = chore.slice();
        if (progress === null) return chore.finish();
        const nowMs = this.#monotonicMs();
        if (nowMs >= nextTellMs) {
          this.#tell(what, progress);
          nextTellMs = nowMs + tellEveryMs;
        }
        await chore.settle();
        // Turns come in between, whether the disk was waited for or not.
        await setImmediate();
        if (this.#current !== mine) return null;
      }
    } catch (error) {
      chore.abandon();
      throw error;
    } finally {
      if (this.#current === mine) this.#current = null;
      if (this.#current === null) this.#tell(what, null);
    }
  }

  /** The file is about to be closed, or something else has to go first. */
  abandon(): void {
    this.#current?.chore.abandon();
    this.#current = null;
  }
}

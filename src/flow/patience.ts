/**
 * Asks the journal until it answers. A disk that refuses (full, worn, gone for a moment) is tried again with
 * back-off, for ever: the loop that asks stands still meanwhile, and with it its cursor, which is the back-pressure.
 *
 * A request that was rejected did not happen, so it may be asked again as it was.
 */
import { unlessAborted } from "../core/abort.ts";
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";

/** From a commit's length on a slow card to what a person who mends the disk is willing to wait. */
const pace = { baseMs: 100, maxMs: 10_000 };

export class Patience {
  readonly #context: Context;
  readonly #end: AbortSignal;
  readonly #onTrouble: (message: string | null) => void;
  #isTroubled = false;

  /** `onTrouble` is told what the journal says, and null when that is over. */
  constructor(context: Context, end: AbortSignal, onTrouble: (message: string | null) => void) {
    this.#context = context;
    this.#end = end;
    this.#onTrouble = onTrouble;
  }

  /**
   * What the journal answers; null when the end came first.
   * @throws HoldfastError that is not transient
   */
  async answer<T>(ask: () => Promise<T>): Promise<T | null> {
    const { clock, random } = this.#context;
    for (let attempt = 1; !this.#end.aborted; attempt++) {
      try {
        const answer = await unlessAborted(ask(), this.#end);
        this.#tell(null);
        return answer;
      } catch (thrown) {
        if (this.#end.aborted) return null;
        if (!(thrown instanceof HoldfastError) || thrown.kind !== "transient") throw thrown;
        this.#tell(thrown.message);
        await clock
          .sleep(backoffDelayMs(pace, attempt, random()), this.#end)
          .catch(() => undefined);
      }
    }
    return null;
  }

  #tell(message: string | null): void {
    if (message === null && !this.#isTroubled) return;
    const { log, name } = this.#context;
    if (message === null) log.info(`The journal takes the results of ${name} again`);
    else if (!this.#isTroubled) {
      log.warn(`The journal takes no results of ${name}: they are tried again`, {
        reason: message,
      });
    }
    this.#isTroubled = message !== null;
    this.#onTrouble(message);
  }
}

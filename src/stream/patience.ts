/** Asking a server that may be away for a while: again with back-off, for as long as it takes. */
import { unlessAborted } from "../core/abort.ts";
import { backoffDelayMs } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { WorkerFigures } from "./worker-figures.ts";

/** Between two attempts: from 50 ms to 5 s. */
const backoff = { baseMs: 50, maxMs: 5_000 };

export interface PatienceParts {
  readonly topic: string;
  readonly group: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: () => number;
  readonly figures: WorkerFigures;
}

export class Patience {
  readonly #parts: PatienceParts;
  readonly #end: AbortSignal;

  constructor(parts: PatienceParts, end: AbortSignal) {
    this.#parts = parts;
    this.#end = end;
  }

  /**
   * Tries again for as long as it takes what is `transient`; null: the end came first.
   * @throws HoldfastError what does not pass
   */
  async try<T>(act: () => Promise<T>): Promise<T | null> {
    const { clock, random, log, figures, topic, group } = this.#parts;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await unlessAborted(act(), this.#end);
        if (attempt > 1) {
          figures.trouble = null;
          log.info("The streams' server answers again", { topic, group });
        }
        return answer;
      } catch (thrown) {
        if (this.#end.aborted) return null;
        if (!(thrown instanceof HoldfastError) || thrown.kind !== "transient") throw thrown;
        if (attempt === 1) log.warn(thrown.message, { topic, group, code: thrown.code });
        figures.trouble = thrown.message;
        const delayMs = backoffDelayMs(backoff, attempt, random());
        await clock.sleep(delayMs, this.#end).catch(() => undefined);
        if (this.#end.aborted) return null;
      }
    }
  }
}

/**
 * What is wrong with a sink, since when, and how long to wait before it is tried again: 1 s to 60 s with jitter,
 * a minute where a person must act, so that it heals without a restart once that person has (invariant 11); 5 s at
 * the most where it is the journal that cannot be read.
 *
 * Health says it at once; the log says the first failure, then each time that their number doubles, then the end.
 */
import type { Context } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import { formatDuration } from "../core/quantity.ts";
import { decide, type Policy } from "./decide.ts";
import type { Pause } from "./pause.ts";

/** A sink that refuses its head event by throwing (not by index) is asked five times before that is believed. */
const policy: Policy = { attempts: 5, baseMs: 1000, maxMs: 60_000, onFailure: "dead-letter" };
const personRetryMs = 60_000;
/** The journal's own disk is near, and nobody else asks it: it is not kept waiting when it heals. */
export const journalRetryMaxMs = 5_000;

export class Trouble {
  readonly #context: Context;
  readonly #pause: Pause;
  #isWell = false;
  /** Since something was last confirmed. */
  #failures = 0;
  #sinceMs: number | null = null;
  #inSend = false;

  constructor(context: Context, pause: Pause) {
    this.#context = context;
    this.#pause = pause;
    this.connecting("Connecting for the first time; events wait in the journal");
  }

  /** It has waited for something that was no trouble: it is well when it delivers. */
  connecting(detail = "Connecting; events wait in the journal"): void {
    this.#isWell = false;
    this.#context.health.report("degraded", detail);
  }

  /** How often it failed since something was last confirmed. */
  get failures(): number {
    return this.#failures;
  }

  /** It opens, but what it was sent failed: only a confirmation ends this trouble. */
  get needsProof(): boolean {
    return this.#inSend;
  }

  /** When it began, wall clock ms. */
  beganAt(): number {
    const { clock } = this.#context;
    return clock.wallMs() - (this.#sinceMs === null ? 0 : clock.monotonicMs() - this.#sinceMs);
  }

  over(): void {
    if (this.#isWell) return;
    const { clock, health, log, name } = this.#context;
    if (this.#sinceMs !== null) {
      log.info(
        `Sink ${name} delivers again after ${formatDuration(clock.monotonicMs() - this.#sinceMs)}`,
      );
    }
    if (this.#sinceMs !== null) this.#pause.reached();
    this.#isWell = true;
    this.#failures = 0;
    this.#sinceMs = null;
    this.#inSend = false;
    health.report("ok");
  }

  /** One more failure, with an event at the head of what was being sent or not. Resolves with what to do. */
  async endure(
    failure: HoldfastError,
    inSend: boolean,
    signal: AbortSignal,
  ): Promise<"again" | "give-up-head"> {
    if (signal.aborted) return "again";
    const { clock, random } = this.#context;
    this.#isWell = false;
    this.#failures++;
    this.#sinceMs ??= clock.monotonicMs();
    this.#inSend ||= inSend;
    const isJournals = failure.code === "JOURNAL_DISK";
    const its = isJournals ? { ...policy, maxMs: journalRetryMaxMs } : policy;
    const decision = decide(failure, this.#failures, its, random());
    if (inSend && (decision.act === "dead-letter" || decision.act === "drop"))
      return "give-up-head";
    const isPersons = decision.act === "stop";
    const delayMs = decision.act === "retry" ? decision.delayMs : personRetryMs;
    this.#tell(failure, isPersons, delayMs);
    await this.#pause.sleep(delayMs, failure.retryAfterMs !== undefined);
    return "again";
  }

  #tell(failure: HoldfastError, isPersons: boolean, delayMs: number): void {
    const { health, log, name } = this.#context;
    const hint = isPersons ? ` (${failure.hint})` : "";
    health.report(
      isPersons ? "failing" : "degraded",
      `${failure.message}${hint}; events wait in the journal, next attempt within ${formatDuration(delayMs)}`,
    );
    const isPowerOfTwo = (this.#failures & (this.#failures - 1)) === 0;
    if (!isPowerOfTwo) return;
    log.warn(`Sink ${name} cannot deliver: ${failure.message}`, {
      code: failure.code,
      failures: this.#failures,
    });
  }
}

/**
 * How long each of a processor's streams has been silent, by the clock that nobody sets, for steps that go on when it
 * is long enough (Step.idleAfterMs). A start, a replay, and whatever else makes the loop attach anew count as a sound.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import type { Chain } from "../processor/processor.ts";

interface Pace {
  readonly baseMs: number;
  readonly maxMs: number;
}

export class Silence {
  readonly #context: Context;
  readonly #chain: Chain;
  readonly #pace: Pace;
  readonly #heardMs = new Map<string, number>();
  /** How often what a silence brings could not be done, and until when it is not tried again. */
  readonly #failures = new Map<string, { readonly count: number; readonly untilMs: number }>();

  constructor(context: Context, chain: Chain, pace: Pace) {
    this.#context = context;
    this.#chain = chain;
    this.#pace = pace;
  }

  heard(stream: string): void {
    this.#heardMs.set(stream, this.#context.clock.monotonicMs());
    this.#failures.delete(stream);
  }

  failed(stream: string, error: HoldfastError): void {
    const { clock, random, log } = this.#context;
    const count = (this.#failures.get(stream)?.count ?? 0) + 1;
    const delayMs = backoffDelayMs(this.#pace, count, random());
    this.#failures.set(stream, { count, untilMs: clock.monotonicMs() + delayMs });
    if (count > 1) return;
    log.warn("What is due in the silence of a stream cannot be done: it is tried again", {
      stream,
      code: error.code,
      reason: error.message,
    });
  }

  /** A stream at its head that has been silent for long enough; null: none has. */
  due(isAtHead: (stream: string) => boolean): string | null {
    const now = this.#context.clock.monotonicMs();
    for (const stream of this.#heardMs.keys()) {
      const dueMs = this.#dueMs(stream);
      if (dueMs !== null && dueMs <= now && isAtHead(stream)) return stream;
    }
    return null;
  }

  /** When the next will be, monotonic ms; null: only what comes can change that. */
  nextMs(isAtHead: (stream: string) => boolean): number | null {
    let next: number | null = null;
    for (const stream of this.#heardMs.keys()) {
      const dueMs = isAtHead(stream) ? this.#dueMs(stream) : null;
      if (dueMs !== null) next = Math.min(next ?? dueMs, dueMs);
    }
    return next;
  }

  #dueMs(stream: string): number | null {
    const afterMs = this.#chain.idleAfterMs(stream);
    if (afterMs === null) return null;
    const dueMs = (this.#heardMs.get(stream) ?? 0) + afterMs;
    return Math.max(dueMs, this.#failures.get(stream)?.untilMs ?? dueMs);
  }
}

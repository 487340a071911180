/**
 * A window of unacknowledged publishes: they go out in order, without waiting for each other, and come to rest
 * in any order.
 *
 * It ends when all have come to rest, or at the first failure. Then it says how many from the start are settled:
 * one that was acknowledged behind an unacknowledged one is not among them and will be sent again.
 *
 * Bound: at most `limit` are out at once.
 */
import type { Clock, Timer } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Refusal, SendResult } from "./sink.ts";

/** Null: the far side has it. Of kind `refused`: it never will. Any other error ends the window. */
export type Outcome = HoldfastError | null;

export interface PublishWindowParts {
  readonly count: number;
  readonly limit: number;
  readonly clock: Clock;
  /** The longest that nothing at all may come to rest while something is out. */
  readonly timeoutMs: number;
  /** Sends one; `rest` may be called before this returns. */
  publish(index: number, rest: (outcome: Outcome) => void): void;
  /** One has come to rest, nothing is left to be sent, and others are out still. */
  readonly waits: () => void;
}

export class PublishWindow {
  readonly #parts: PublishWindowParts;
  readonly #outcomes: (Outcome | undefined)[];
  readonly #ended = Promise.withResolvers<SendResult>();
  #next = 0;
  #resting = 0;
  #settled = 0;
  #lastRestMs: number;
  #isPumping = false;
  #isOver = false;
  #timer: Timer;

  constructor(parts: PublishWindowParts) {
    this.#parts = parts;
    this.#outcomes = Array.from({ length: parts.count });
    this.#lastRestMs = parts.clock.monotonicMs();
    this.#timer = parts.clock.after(parts.timeoutMs, () => this.#checkTime());
  }

  run(): Promise<SendResult> {
    this.#pump();
    return this.#ended.promise;
  }

  /** The connection is gone, or nobody waits any more. */
  fail(error: HoldfastError): void {
    this.#end(error);
  }

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    const { count, limit } = this.#parts;
    while (!this.#isOver && this.#next < count && this.#next - this.#resting < limit) {
      const index = this.#next++;
      this.#parts.publish(index, (outcome) => this.#rest(index, outcome));
    }
    this.#isPumping = false;
    if (this.#resting === count) this.#end();
  }

  #rest(index: number, outcome: Outcome): void {
    if (this.#isOver || this.#outcomes[index] !== undefined) return;
    if (outcome !== null && outcome.kind !== "refused") {
      this.#end(outcome);
      return;
    }
    this.#outcomes[index] = outcome;
    this.#resting++;
    this.#lastRestMs = this.#parts.clock.monotonicMs();
    while (this.#settled < this.#next && this.#outcomes[this.#settled] !== undefined)
      this.#settled++;
    this.#pump();
    const { count, waits } = this.#parts;
    if (!this.#isOver && this.#next === count && this.#resting < count) waits();
  }

  /** One timer for the whole window, set again for what is left: a timer for each publish would cost more. */
  #checkTime(): void {
    const { clock, timeoutMs } = this.#parts;
    const leftMs = this.#lastRestMs + timeoutMs - clock.monotonicMs();
    if (leftMs > 0) {
      this.#timer = clock.after(leftMs, () => this.#checkTime());
      return;
    }
    const out = this.#next - this.#resting;
    const why = `Broker acknowledged none of ${out} messages for ${timeoutMs / 1000} s`;
    this.#end(new HoldfastError("SINK_UNREACHABLE", why));
  }

  #end(failure?: HoldfastError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.cancel();
    const refused: Refusal[] = [];
    for (let index = 0; index < this.#settled; index++) {
      const error = this.#outcomes[index];
      if (error instanceof HoldfastError) refused.push({ index, error });
    }
    this.#ended.resolve({
      settled: this.#settled,
      refused,
      ...(failure !== undefined && { failure }),
    });
  }
}

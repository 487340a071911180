/**
 * How many messages a broker sends before it waits for acknowledgements, and so when to ask for a commit.
 *
 * Between commits nothing is acknowledged. When the broker's window is full it stands still until the journal's
 * linger is over, so a commit must be asked for first; but asking too early is an fsync for nothing. MQTT 5 brokers
 * are told our window, yet may use a smaller one, and 3.1.1 has no word for it (mosquitto: 20, HiveMQ: 10,
 * EMQX: 32). So it is learnt from the one sign that it gives: silence while `n` are outstanding, and a new message
 * right after their acknowledgement, twice with the same `n`. A guess that is too low is refuted by the next burst
 * and forgotten; one made at a slow and regular pace costs no more commits than the pace itself.
 */

/** Silence before the acknowledgements must be this many times the silence after them. */
const silenceRatio = 4;
/** Below this, ms, silence is scheduling noise. */
const noiseMs = 1;

export class AckWindow {
  /** Ask at the latest here: half of what was offered, so that one half arrives while the other is committed. */
  readonly #ceiling: number;
  readonly #guess: number;
  #size: number;
  /** Never more than the broker's window, since no more than that is ever outstanding. */
  #largestLearnt = 0;
  #candidate = 0;
  #lastArrivalMs = 0;
  #flush: { outstanding: number; atMs: number; silentMs: number } | null = null;

  constructor(guess: number, ceiling: number) {
    this.#ceiling = ceiling;
    this.#guess = Math.min(guess, ceiling);
    this.#size = this.#guess;
  }

  /** Outstanding messages at which a commit is worth asking for. */
  get size(): number {
    return this.#size;
  }

  /** Messages arrived; so many are outstanding now. */
  arrived(outstanding: number, nowMs: number): void {
    if (outstanding > this.#size) this.#size = this.#next(outstanding);
    const flush = this.#flush;
    this.#flush = null;
    this.#lastArrivalMs = nowMs;
    if (flush === null) return;
    const answeredMs = Math.max(nowMs - flush.atMs, noiseMs);
    if (flush.silentMs < silenceRatio * answeredMs) this.#candidate = 0;
    else if (flush.outstanding !== this.#candidate) this.#candidate = flush.outstanding;
    else this.#learn(flush.outstanding);
  }

  /** All that was outstanding, `outstanding` messages, was acknowledged. */
  flushed(outstanding: number, nowMs: number): void {
    this.#flush = { outstanding, atMs: nowMs, silentMs: nowMs - this.#lastArrivalMs };
  }
  #learn(outstanding: number): void {
    this.#size = Math.min(outstanding, this.#ceiling);
    this.#largestLearnt = Math.max(this.#largestLearnt, this.#size);
  }

  /** What to believe when more than `#size` are outstanding. */
  #next(outstanding: number): number {
    if (outstanding <= this.#largestLearnt) return this.#largestLearnt;
    return outstanding <= this.#guess ? this.#guess : this.#ceiling;
  }
}

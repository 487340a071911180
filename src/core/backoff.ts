/**
 * Exponential back-off with equal jitter: half of the delay is fixed, half is drawn, so that a fleet that lost
 * one broker does not come back in one instant, and no single device comes back at once.
 */

export interface BackoffOptions {
  /** First delay, ms. */
  readonly baseMs: number;
  /** Ceiling, ms. */
  readonly maxMs: number;
}

/** Delay before attempt `attempt` (1 is the first retry), ms, at most `maxMs`. `random` is in [0, 1). */
export function backoffDelayMs(options: BackoffOptions, attempt: number, random: number): number {
  // 2 ** 30 already exceeds any ceiling in use; the cap keeps the power finite for ever-growing attempts.
  const full = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt - 1, 30));
  return full / 2 + (full / 2) * random;
}

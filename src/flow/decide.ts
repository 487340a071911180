/**
 * What to do after a failure: one pure function for every loop. Parts report, this decides.
 *
 *   transient ────────────────► retry, for ever: the far side's trouble, no event's fault
 *   refused ──► tries left ───► retry
 *          └──► none left ────► as `onFailure` says: dead letter · drop · retry for ever at the ceiling (block)
 *   fatal, config ────────────► stop: this part cannot go on, or a person must act
 *
 * Bound: every delay is at most `maxMs`, with jitter (core/backoff.ts), or what the far side asked for.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { HoldfastError } from "../core/errors.ts";

export type Decision =
  | { readonly act: "retry"; readonly delayMs: number }
  | { readonly act: "dead-letter" }
  | { readonly act: "drop" }
  | { readonly act: "stop" };

export interface Policy {
  /** How often an event that is refused is tried in all, the first attempt counted. */
  readonly attempts: number;
  /** Delay before the first retry, ms. */
  readonly baseMs: number;
  /** The longest delay, ms. */
  readonly maxMs: number;
  readonly onFailure: "dead-letter" | "block" | "drop";
}

/** `attempt`: how often it was tried by now, at least 1. `random` is in [0, 1). */
export function decide(
  error: HoldfastError,
  attempt: number,
  policy: Policy,
  random: number,
): Decision {
  if (error.kind === "fatal" || error.kind === "config") return { act: "stop" };
  const backoffMs = backoffDelayMs(policy, attempt, random);
  const again: Decision = {
    act: "retry",
    delayMs: Math.max(backoffMs, error.retryAfterMs ?? 0),
  };
  if (error.kind === "transient" || attempt < policy.attempts) return again;
  if (policy.onFailure !== "block") return { act: policy.onFailure };
  // The ceiling without jitter below it: a blocked event costs as little as it can.
  return { act: "retry", delayMs: policy.maxMs };
}

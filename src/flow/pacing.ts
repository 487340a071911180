/**
 * When a sink may deliver and how fast: its schedule, its rate, the size of its batches.
 *
 * `hurry` lifts the schedule until what was asked for is done, or an attempt has failed. What a person has paused
 * stands still until a person resumes it.
 */
import type { Pulse } from "../core/pulse.ts";
import type { Context, Figures } from "../core/context.ts";
import { batchBytesMax, batchEventsMax, type BatchBounds } from "./read-ahead.ts";
import { scheduleEveryMs, whyNotNow, type Schedule } from "./schedule.ts";
import { TokenBucket } from "./token-bucket.ts";

export interface Pace {
  readonly bounds?: BatchBounds;
  readonly bytesPerSecond?: number;
  readonly schedule?: Schedule;
  /** Fresh events go first, and the backlog has this share, between 0 and 1. */
  readonly backlogShare?: number;
}

/** What is read from when the rest is over. */
interface Restful {
  /** When what it has may be read, on the monotone clock; null: at once. */
  readonly dueMs: number | null;
  hasMore(): boolean;
}

export class Pacing {
  /**
   * A step is a rest that has ended, and one is owed while events wait that could be read now: an answer of the far side,
   * a back-off, hours and the journal's reads are others' to end.
   */
  readonly pulse: Pulse;
  readonly bounds: BatchBounds;
  readonly #context: Context;
  readonly #schedule: Schedule | undefined;
  readonly #bucket: TokenBucket | undefined;
  readonly #signal: AbortSignal;
  /** How much is still to be done of what was asked for; null: nothing was. */
  #wanted: (() => number) | null = null;
  /** Why it stands still; null: it does not. */
  #pausedFor: string | null = null;
  #waitsFor: string | null = null;
  #wake: (() => void) | null = null;
  #rests = 0;
  /** What is slept for; null: nothing is. */
  #resting: Restful | null = null;

  constructor(context: Context, pace: Pace, signal: AbortSignal) {
    this.#context = context;
    this.pulse = {
      name: `delivery to ${context.name}`,
      steps: () => this.#rests,
      owes: () => this.#resting?.dueMs === null && this.#resting.hasMore(),
    };
    this.#signal = signal;
    this.#schedule = pace.schedule;
    const { bytesPerSecond } = pace;
    const bounds = pace.bounds ?? { events: batchEventsMax, bytes: batchBytesMax, waitMs: 0 };
    if (bytesPerSecond === undefined) this.bounds = bounds;
    else {
      // A batch is no more than a second's worth: the link is never taken for longer.
      this.bounds = { ...bounds, bytes: Math.min(bounds.bytes, Math.ceil(bytesPerSecond)) };
      this.#bucket = new TokenBucket(bytesPerSecond, context.clock.monotonicMs());
    }
  }

  /** Now, whatever the schedule says, until `wanted` gives 0. */
  hurry(wanted: () => number): void {
    if (this.isPaused) return;
    this.#wanted = wanted;
    this.#wake?.();
  }

  pause(why: string): void {
    this.#pausedFor = why;
    this.#wanted = null;
  }

  resume(): void {
    this.#pausedFor = null;
    this.#wake?.();
  }

  get isPaused(): boolean {
    return this.#pausedFor !== null;
  }

  /** It was tried. */
  calm(): void {
    this.#wanted = null;
  }

  /** Of what was asked for; null: nothing was, or it is done or has failed. */
  get remaining(): number | null {
    const remaining = this.#wanted?.() ?? 0;
    if (remaining === 0) this.#wanted = null;
    return remaining === 0 ? null : remaining;
  }

  isAllowed(): boolean {
    if (this.isPaused) return false;
    if (this.#schedule === undefined) return true;
    const why = whyNotNow(this.#schedule, this.#context.clock);
    this.#waitsFor = this.remaining === null ? why : null;
    return this.#waitsFor === null;
  }

  /** Waiting for its hours is no trouble; being paused is told, lest it is forgotten. True: it had to wait. */
  async untilAllowed(): Promise<boolean> {
    const { clock, health } = this.#context;
    const waits = !this.isAllowed();
    while (!this.isAllowed() && !this.#signal.aborted) {
      if (this.#pausedFor !== null) health.report("degraded", this.#pausedFor);
      else health.report("ok");
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      const ends = AbortSignal.any([this.#signal, woken.signal]);
      await clock.sleep(scheduleEveryMs, ends).catch(() => undefined);
      this.#wake = null;
    }
    return waits;
  }

  /** Until `wake`, or `dueMs` on the monotone clock, or the schedule is to be looked at. */
  async rest(reader: Restful, wake: PromiseWithResolvers<void>): Promise<void> {
    const { clock } = this.#context;
    const { dueMs } = reader;
    const lookMs = this.#schedule === undefined ? Number.POSITIVE_INFINITY : scheduleEveryMs;
    const untilMs = dueMs === null ? lookMs : Math.min(lookMs, dueMs - clock.monotonicMs());
    const isTimed = untilMs !== Number.POSITIVE_INFINITY;
    const timer = isTimed ? clock.after(untilMs, () => wake.resolve()) : undefined;
    this.#resting = reader;
    await wake.promise;
    this.#resting = null;
    this.#rests += 1;
    timer?.cancel();
  }

  /** Until the rate allows another batch. */
  async untilAffordable(): Promise<void> {
    const { clock } = this.#context;
    const waitMs = this.#bucket?.waitMs(clock.monotonicMs()) ?? 0;
    if (waitMs > 0) await clock.sleep(waitMs, this.#signal).catch(() => undefined);
  }

  spent(bytes: number): void {
    this.#bucket?.spend(bytes, this.#context.clock.monotonicMs());
  }

  figures(): Figures {
    return this.#waitsFor === null ? {} : { waits: this.#waitsFor };
  }
}

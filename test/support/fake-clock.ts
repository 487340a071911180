/** A clock that stands still until a test moves it. */
import type { Clock } from "../../src/core/clock.ts";
import type { ClockQuality } from "../../src/core/event.ts";

interface Waiting {
  readonly dueMs: number;
  readonly action: () => void;
}

export class FakeClock implements Clock {
  wall = Date.UTC(2026, 0, 1);
  monotonic = 1000;
  bootId = "00000000-0000-4000-8000-000000000001";
  clockQuality: ClockQuality = "synced";
  #waiting: Waiting[] = [];

  wallMs(): number {
    return this.wall;
  }

  monotonicMs(): number {
    return this.monotonic;
  }

  quality(): ClockQuality {
    return this.clockQuality;
  }

  after(delayMs: number, action: () => void): { cancel(): void } {
    const waiting = { dueMs: this.monotonic + delayMs, action };
    this.#waiting.push(waiting);
    return {
      cancel: () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiting);
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = this.after(delayMs, resolve);
      signal?.addEventListener(
        "abort",
        () => {
          timer.cancel();
          reject(signal.reason as Error);
        },
        { once: true },
      );
    });
  }

  /** How many timers wait: a test can see that nothing is left, or that somebody now sleeps. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Moves both clocks, running what falls due in order. */
  advance(ms: number): void {
    const end = this.monotonic + ms;
    for (;;) {
      const next = this.#waiting.filter((w) => w.dueMs <= end).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.#waiting = this.#waiting.filter((other) => other !== next);
      this.wall += next.dueMs - this.monotonic;
      this.monotonic = next.dueMs;
      next.action();
    }
    this.wall += end - this.monotonic;
    this.monotonic = end;
  }
}

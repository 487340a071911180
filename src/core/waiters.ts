/** Those who wait for news of one stream: each looks for itself, and again whenever something has come. */
import type { Clock, Timer } from "./clock.ts";

export class Waiters {
  readonly #waking = new Set<() => void>();

  wakeAll(): void {
    for (const wake of this.#waking) wake();
  }

  /**
   * What `look` gives, as soon as that is something; null: `waitMs` are over, or `signal` is aborted. Who is aborted
   * does not look: what it would take, nobody would get. `look` says null without awaiting, or news that come meanwhile
   * would wake nobody.
   */
  async until<T>(
    look: () => T | Promise<T> | null,
    clock: Clock,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<T | null> {
    const untilMs = clock.monotonicMs() + waitMs;
    for (;;) {
      if (signal.aborted) return null;
      const found = look();
      if (found !== null) return found;
      const leftMs = untilMs - clock.monotonicMs();
      if (leftMs <= 0) return null;
      await this.#woken(clock, leftMs, signal);
    }
  }

  #woken(clock: Clock, waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const wake = (): void => {
        timer?.cancel();
        signal.removeEventListener("abort", wake);
        this.#waking.delete(wake);
        resolve();
      };
      this.#waking.add(wake);
      signal.addEventListener("abort", wake, { once: true });
      timer = clock.after(waitMs, wake);
    });
  }
}

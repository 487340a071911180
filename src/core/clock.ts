/**
 * The only door to time. Tests put a fake one in its place.
 *
 * `monotonicMs` counts from the boot of the machine (Linux CLOCK_MONOTONIC, which is what process.hrtime
 * reads), so two processes of one boot can compare their readings; `bootId` says which boot that was.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { ClockQuality } from "./event.ts";

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** ms since 1970-01-01 UTC; may jump either way. */
  wallMs(): number;
  /** ms since boot, with fractions; never goes back. */
  monotonicMs(): number;
  /** This boot's identity (a UUID from the kernel). */
  readonly bootId: string;
  quality(): ClockQuality;
  /** Runs `action` once after `delayMs`; does not keep the process alive. */
  after(delayMs: number, action: () => void): Timer;
  /** Resolves after `delayMs`; rejects with the signal's reason when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** 24.8 days: Node makes 1 ms of what is longer (`setTimeout` in its documentation). */
const timerMaxMs = 2 ** 31 - 1;

/** The real clock. `quality` comes from whoever watches the time sync (host/time-sync.ts). */
export function systemClock(quality: () => ClockQuality): Clock {
  return {
    wallMs: () => Date.now(),
    monotonicMs: () => Number(process.hrtime.bigint() / 1000n) / 1000,
    bootId: readBootId(),
    quality,
    after(delayMs, action) {
      let timer: NodeJS.Timeout;
      const arm = (leftMs: number): void => {
        const goesOn = leftMs > timerMaxMs;
        // Node cuts fractions off, which would be early.
        const next = goesOn ? () => arm(leftMs - timerMaxMs) : action;
        timer = setTimeout(next, goesOn ? timerMaxMs : Math.ceil(leftMs));
        timer.unref();
      };
      arm(delayMs);
      return { cancel: () => clearTimeout(timer) };
    },
    async sleep(delayMs, signal) {
      const options = signal === undefined ? {} : { signal };
      let leftMs = delayMs;
      for (; leftMs > timerMaxMs; leftMs -= timerMaxMs) await delay(timerMaxMs, undefined, options);
      await delay(leftMs, undefined, options);
    },
  };
}

/** The process does not end while this is held: timers of `after` do not keep it alive. */
export function keepAlive(clock: Pick<Clock, "sleep">): Disposable {
  const end = new AbortController();
  clock.sleep(Number.MAX_SAFE_INTEGER, end.signal).catch(() => undefined);
  return { [Symbol.dispose]: () => end.abort() };
}

function readBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    // Not Linux: each process counts as a boot of its own, which only costs precision of receipt times.
    return crypto.randomUUID();
  }
}

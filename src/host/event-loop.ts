/** How long the main thread was held up: what every promise about speed rests on. */
import { monitorEventLoopDelay } from "node:perf_hooks";

export interface EventLoopWatch {
  /** The longest stall since this was last called, seconds. */
  takeLagSeconds(): number;
  /** The longest stall since the start, seconds. */
  maxSeconds(): number;
  stop(): void;
}

/**
 * How often the loop is looked at, ms. Measured: every 10 ms costs 0.4 % of a core when idle, every 20 ms half of
 * that. The histogram's values include one such step, which is taken off again, so a stall is told at most
 * 20 ms too short, never too long.
 */
const resolutionMs = 20;

export function watchEventLoop(): EventLoopWatch {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  let maxSeconds = 0;
  const take = (): number => {
    // `max` is 0 as long as nothing was recorded.
    const lagSeconds = Math.max(0, histogram.max / 1e9 - resolutionMs / 1000);
    histogram.reset();
    maxSeconds = Math.max(maxSeconds, lagSeconds);
    return lagSeconds;
  };
  let untold = 0;
  return {
    takeLagSeconds() {
      const lagSeconds = Math.max(untold, take());
      untold = 0;
      return lagSeconds;
    },
    maxSeconds() {
      // A look at the health must not hide a stall from the next scrape.
      untold = Math.max(untold, take());
      return maxSeconds;
    },
    stop: () => void histogram.disable(),
  };
}

/** How fast groups go, from where their cursors stood a while ago. */
import type { Clock, Timer } from "../core/clock.ts";
import type { Journal } from "../journal/journal.ts";

export interface Rates {
  start(): void;
  stop(): void;
  /** Events a second over the last 10 to 20 s; null as long as nothing is known. */
  perSecond(group: string, stream: string, cursor: number): number | null;
}

/** Long enough to even out batches, short enough that a technician sees a change, ms. */
const sampleEveryMs = 10_000;

interface Sample {
  readonly atMs: number;
  readonly cursors: ReadonlyMap<string, number>;
}

export function createRates(clock: Clock, journal: Journal): Rates {
  const keyOf = (group: string, stream: string): string => `${group}\n${stream}`;
  /** The one before the last: always a full interval away. */
  let older: Sample | undefined;
  let newer: Sample | undefined;
  let timer: Timer | undefined;
  const sample = (): void => {
    older = newer;
    const { groups } = journal.status();
    newer = {
      atMs: clock.monotonicMs(),
      cursors: new Map(groups.map((row) => [keyOf(row.group, row.stream), row.cursor])),
    };
    timer = clock.after(sampleEveryMs, sample);
  };
  return {
    start: sample,
    stop: () => timer?.cancel(),
    perSecond(group, stream, cursor) {
      const key = keyOf(group, stream);
      const base = older?.cursors.has(key) ? older : newer;
      const before = base?.cursors.get(key);
      if (base === undefined || before === undefined) return null;
      const seconds = (clock.monotonicMs() - base.atMs) / 1000;
      // Under a second the figure would be noise.
      return seconds < 1 ? null : (cursor - before) / seconds;
    },
  };
}

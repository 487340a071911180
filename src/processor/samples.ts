/**
 * A value over time, for what depends on the order of the samples: the average weighted by time, and the increase of a
 * counter. Samples may come in any order. The last `looseMax` are kept; older ones are settled into a sum, and one that
 * comes to lie before what was settled is left out.
 *
 * Plain JSON, never changed.
 */

export interface Samples {
  /** What was settled; null: nothing. */
  readonly a: Settled | null;
  /** Times and values, ascending by time; of one time in the order in which they came. */
  readonly s: readonly Sample[];
}

type Sample = readonly [time: number, value: number];

interface Settled {
  readonly first: Sample;
  readonly last: Sample;
  /** Of value times ms. */
  readonly area: number;
  readonly increase: number;
}

/** 256: as many may be out of order with each other, and 5 KiB of JSON. */
export const looseMax = 256;

export const noSamples: Samples = { a: null, s: [] };

export function samplesWith({ a, s }: Samples, time: number, value: number): Samples {
  if (a !== null && time < a.last[0]) return { a, s };
  let at = s.length;
  while (at > 0 && (s[at - 1] as Sample)[0] > time) at -= 1;
  return bounded({ a, s: s.toSpliced(at, 0, [time, value]) });
}

export function mergedSamples(one: Samples, other: Samples): Samples {
  const [early, late] = startOf(one) <= startOf(other) ? [one, other] : [other, one];
  if (late.a === null) {
    let both = early;
    for (const [time, value] of late.s) both = samplesWith(both, time, value);
    return both;
  }
  const before = early.s.reduce(settle, early.a);
  if (before === null) return late;
  const gap = settle(before, late.a.first) as Settled;
  const a = {
    first: before.first,
    last: late.a.last,
    area: gap.area + late.a.area,
    increase: gap.increase + late.a.increase,
  };
  return { a, s: late.s };
}

/** The average until `end`, each value counting until the next; the last value where no time passes. */
export function timeWeightedAverage({ a, s }: Samples, end: number): number | null {
  const all = s.reduce(settle, a);
  if (all === null) return null;
  const [time, value] = all.last;
  const span = Math.max(end, time) - all.first[0];
  if (span <= 0) return value;
  return (all.area + value * (Math.max(end, time) - time)) / span;
}

/** The increase a second of a counter that may begin again from 0; null of fewer than two moments. */
export function increasePerSecond({ a, s }: Samples): number | null {
  const all = s.reduce(settle, a);
  if (all === null || all.last[0] <= all.first[0]) return null;
  return (all.increase * 1000) / (all.last[0] - all.first[0]);
}

function bounded(samples: Samples): Samples {
  if (samples.s.length <= looseMax) return samples;
  const half = looseMax / 2;
  return { a: samples.s.slice(0, half).reduce(settle, samples.a), s: samples.s.slice(half) };
}

function settle(before: Settled | null, sample: Sample): Settled | null {
  if (before === null) return { first: sample, last: sample, area: 0, increase: 0 };
  const [[time, value], [nextTime, nextValue]] = [before.last, sample];
  return {
    first: before.first,
    last: sample,
    area: before.area + value * (nextTime - time),
    increase: before.increase + (nextValue >= value ? nextValue - value : nextValue),
  };
}

function startOf({ a, s }: Samples): number {
  return a?.first[0] ?? s[0]?.[0] ?? Number.POSITIVE_INFINITY;
}

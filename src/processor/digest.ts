/**
 * Percentiles of numbers in bounded memory: a merging t-digest (T. Dunning, O. Ertl, "Computing Extremely Accurate
 * Quantiles Using t-Digests", 2019). Up to `exactMax` numbers it keeps them all and is exact; beyond that it keeps at
 * most about `centroidsMax` means with their weights, finer towards both ends, and is off by 2 % of the ranks in
 * the middle at the most (test/processor/digest.test.ts), by less towards the ends.
 *
 * A digest is plain JSON and is never changed: `add` and `merge` give new ones.
 */

export interface Digest {
  /** Numbers that are not merged yet. */
  readonly b: readonly number[];
  /** Means and weights by turns, ascending. */
  readonly c: readonly number[];
  /** Of all that were merged. */
  readonly lo: number;
  readonly hi: number;
}

/** 128 numbers: the windows of most sensors hold no more, and 1 KiB is a state's worth. */
export const exactMax = 128;
/** The paper's δ: it bounds the centroids, and the error with them. */
export const centroidsMax = 100;

export const emptyDigest: Digest = { b: [], c: [], lo: 0, hi: 0 };

export function digestWith(digest: Digest, value: number): Digest {
  const grown = { ...digest, b: [...digest.b, value] };
  return grown.b.length <= exactMax ? grown : compressed(grown);
}

export function mergedDigests(a: Digest, b: Digest): Digest {
  if (a.c.length === 0 && b.c.length === 0) {
    const both = { ...a, b: [...a.b, ...b.b] };
    return both.b.length <= exactMax ? both : compressed(both);
  }
  const [first, second] = [compressed(a), compressed(b)];
  return merged(
    [...pairsOf(first), ...pairsOf(second)],
    Math.min(first.lo, second.lo),
    Math.max(first.hi, second.hi),
  );
}

/** The value below which the share `p` (0 to 1) lies; null of nothing. */
export function percentileOf(digest: Digest, p: number): number | null {
  if (digest.c.length === 0) return exactPercentile(digest.b, p);
  const { c, lo, hi } = compressed(digest);
  const total = weightOf(c);
  const target = p * total;
  let [before, at, value] = [0, 0, lo];
  for (let index = 0; index < c.length; index += 2) {
    const [mean = 0, weight = 0] = [c[index], c[index + 1]];
    const middle = before + weight / 2;
    if (target < middle) return between(at, value, middle, mean, target);
    before += weight;
    [at, value] = [middle, mean];
  }
  return between(at, value, total, hi, target);
}

/** Between the two nearest ranks, as a median of two is their mean. */
function exactPercentile(values: readonly number[], p: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = p * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(rank)], sorted[Math.ceil(rank)]];
  if (below === undefined || above === undefined) return null;
  return below + (above - below) * (rank - Math.floor(rank));
}

function between(at: number, value: number, next: number, nextValue: number, x: number): number {
  return next === at ? nextValue : value + ((nextValue - value) * (x - at)) / (next - at);
}

function compressed(digest: Digest): Digest {
  const { b, c, lo, hi } = digest;
  if (b.length === 0) return digest;
  const isFirst = c.length === 0;
  const [least, most] = [Math.min(...b), Math.max(...b)];
  return merged(
    [...pairsOf(digest), ...b.map((value) => [value, 1] as const)],
    isFirst ? least : Math.min(lo, least),
    isFirst ? most : Math.max(hi, most),
  );
}

type Pair = readonly [mean: number, weight: number];

function pairsOf({ c }: Digest): Pair[] {
  return c.flatMap((mean, index) => (index % 2 === 0 ? [[mean, c[index + 1] ?? 0] as const] : []));
}

/** One walk from the least to the greatest: neighbours become one as long as the scale lets them. */
function merged(pairs: readonly Pair[], lo: number, hi: number): Digest {
  const sorted = pairs.toSorted(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, weight]) => sum + weight, 0);
  const c: number[] = [];
  let before = 0;
  let [mean, weight] = sorted[0] ?? [0, 0];
  let most = total * limitAfter(0);
  for (const [nextMean, nextWeight] of sorted.slice(1)) {
    if (before + weight + nextWeight <= most) {
      weight += nextWeight;
      mean += ((nextMean - mean) * nextWeight) / weight;
      continue;
    }
    c.push(mean, weight);
    before += weight;
    most = total * limitAfter(before / total);
    [mean, weight] = [nextMean, nextWeight];
  }
  c.push(mean, weight);
  return { b: [], c, lo, hi };
}

/** Up to which share a centroid may reach that begins at `q`: one step of the paper's scale function k1. */
function limitAfter(q: number): number {
  const k = (centroidsMax / (2 * Math.PI)) * Math.asin(2 * q - 1) + 1;
  const angle = (k * 2 * Math.PI) / centroidsMax;
  return angle >= Math.PI / 2 ? 1 : (Math.sin(angle) + 1) / 2;
}

function weightOf(c: readonly number[]): number {
  return c.reduce((sum, each, index) => (index % 2 === 1 ? sum + each : sum), 0);
}

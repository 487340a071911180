/**
 * How fast something fills up, by what it held over the last ten minutes, and when that will be too much.
 * Bound: 60 samples.
 */
const everyMs = 10_000;
const samplesMax = 60;

export class FillRate {
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];

  /** Called as often as one likes; kept each ten seconds. */
  isDue(nowMs: number): boolean {
    return nowMs - (this.#samples.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) >= everyMs;
  }

  sample(nowMs: number, bytes: number): void {
    this.#samples.push({ atMs: nowMs, bytes });
    if (this.#samples.length > samplesMax) this.#samples.shift();
  }

  /** Seconds until it holds `bytesMax`; null: it does not grow, or that is not known yet. */
  secondsUntil(bytesMax: number): number | null {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.bytes <= first.bytes) return null;
    const bytesPerSecond = ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000;
    return Math.max(0, Math.round((bytesMax - last.bytes) / bytesPerSecond));
  }
}

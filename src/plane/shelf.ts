/**
 * What lies on the server, as runs of appends by stream and bytes, and what has to go when it is too much: first what
 * our groups have passed, oldest first, then the oldest of all.
 *
 * Bounds: `bytesMax`; of runs two for each 256th of it, and one for each stream beside them (what comes is added to its
 * stream's newest run until that is a 256th, so that the order is blurred by no more).
 */
interface Run {
  readonly stream: string;
  last: number;
  bytes: number;
}

export class Shelf {
  readonly #bytesMax: number;
  readonly #passed: (stream: string) => number;
  #runs: Run[] = [];
  readonly #newest = new Map<string, Run>();
  #bytes = 0;
  /** What may lie there now: less than `bytesMax` after the server had no memory. */
  #budget: number;

  /** `passed`: the last seq that all groups have passed. */
  constructor(bytesMax: number, passed: (stream: string) => number) {
    this.#bytesMax = bytesMax;
    this.#budget = bytesMax;
    this.#passed = passed;
  }

  holds(stream: string): boolean {
    return this.#runs.some((run) => run.stream === stream);
  }

  put(stream: string, last: number, bytes: number): void {
    this.#bytes += bytes;
    const newest = this.#newest.get(stream);
    if (newest !== undefined && newest.bytes > 0 && newest.bytes + bytes <= this.#bytesMax / 256) {
      newest.last = last;
      newest.bytes += bytes;
    } else {
      const run: Run = { stream, last, bytes };
      this.#newest.set(stream, run);
      this.#runs.push(run);
    }
  }

  forget(stream: string): void {
    this.#newest.delete(stream);
    this.#keep((run) => run.stream !== stream);
  }

  clear(): void {
    this.#newest.clear();
    this.#keep(() => false);
    this.#budget = this.#bytesMax;
  }

  /** What goes because it is over the budget: of each stream everything up to a seq. */
  over(): Map<string, number> {
    if (this.#bytes <= this.#budget) return new Map();
    // Whoever else filled the server may have left: back to the whole in some 256 steps.
    this.#budget = Math.min(this.#bytesMax, this.#budget + this.#bytesMax / 256);
    return this.#shrink(this.#budget);
  }

  /** The server has no memory: half of what is there goes. */
  halve(): Map<string, number> {
    this.#budget = this.#bytes / 2;
    return this.#shrink(this.#budget);
  }

  #shrink(bytesMax: number): Map<string, number> {
    const gone = new Map<string, number>();
    const drop = (run: Run): void => {
      gone.set(run.stream, run.last);
      this.#bytes -= run.bytes;
      run.bytes = 0;
    };
    // A run that waits for a group holds those of its stream behind it: a trim takes all that is older.
    const held = new Set<string>();
    for (const run of this.#runs) {
      if (this.#bytes <= bytesMax) break;
      if (!held.has(run.stream) && run.last <= this.#passed(run.stream)) drop(run);
      else held.add(run.stream);
    }
    for (const run of this.#runs) {
      if (this.#bytes <= bytesMax) break;
      if (run.bytes > 0) drop(run);
    }
    this.#runs = this.#runs.filter((run) => run.bytes > 0);
    return gone;
  }

  #keep(isKept: (run: Run) => boolean): void {
    this.#runs = this.#runs.filter(isKept);
    this.#bytes = this.#runs.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}

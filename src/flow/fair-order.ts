/**
 * Which stream is next: the first of the list that has something, as its order is the priority; but a stream that
 * has waited through `passesMax` turns of others goes before them, so that a flood of alarms slows the readings
 * and never stops them. With n streams that always have something, each gets at least one turn in `passesMax` + n.
 */

/** 8: the first stream keeps nearly nine tenths of the line while another one waits. */
export const passesMax = 8;

export class FairOrder {
  readonly #streams: readonly string[];
  readonly #passes = new Map<string, number>();

  constructor(streams: readonly string[]) {
    this.#streams = streams;
  }

  next(hasSomething: (stream: string) => boolean): string | null {
    const waiting = this.#streams.filter(hasSomething);
    const starved = waiting.find((stream) => (this.#passes.get(stream) ?? 0) >= passesMax);
    const chosen = starved ?? waiting[0] ?? null;
    for (const stream of waiting) {
      this.#passes.set(stream, stream === chosen ? 0 : (this.#passes.get(stream) ?? 0) + 1);
    }
    return chosen;
  }
}

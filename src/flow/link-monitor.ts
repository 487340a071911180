/**
 * What all sinks know of the network together. Whoever waits in back-off is woken when another sink, that could not
 * deliver either, reaches its far side: it answered, which an interface that is up does not say.
 *
 * A sink that was well all along wakes nobody: its far side may be in the next room.
 * Bound: one entry for each sink.
 */
export class LinkMonitor {
  readonly #sleepers = new Map<string, () => void>();

  /** `wake` is called at most once, until the sink sleeps again. */
  sleeps(sink: string, wake: () => void): void {
    this.#sleepers.set(sink, wake);
  }

  awake(sink: string): void {
    this.#sleepers.delete(sink);
  }

  /** A sink that was away delivers again. */
  reached(sink: string): void {
    const sleepers = [...this.#sleepers];
    this.#sleepers.clear();
    for (const [name, wake] of sleepers) if (name !== sink) wake();
  }
}

/**
 * What all sinks know of the network together. Whoever waits in back-off is woken when a far side answers again, which
 * an interface that is up does not say:
 * - another sink, that could not deliver either, reaches its own
 * - the monitor's probe reaches one that it could not reach before. While anybody waits, it tries the far side of each
 *   every 10 s: a link that is there for ten minutes is not slept through. One that answered all along wakes nobody:
 *   the trouble is another, and its back-off stays
 *
 * A sink that was well all along wakes nobody: its far side may be in the next room.
 * Bound: one entry for each sink, one probe at a time for each; a connection and nothing else, about 200 bytes.
 */
import type { Clock, Timer } from "../core/clock.ts";
import type { FarAddress } from "../core/far-address.ts";

const probeEveryMs = 10_000;

export interface LinkProbe {
  readonly clock: Clock;
  /** Whether it answers within a few seconds; never rejects. */
  answers(address: FarAddress): Promise<boolean>;
}

interface Sleeper {
  readonly wake: () => void;
  readonly address: FarAddress | null;
}

export class LinkMonitor {
  readonly #probe: LinkProbe | null;
  readonly #sleepers = new Map<string, Sleeper>();
  /** Sinks whose far side did not answer the last probe. */
  readonly #silent = new Set<string>();
  #timer: Timer | null = null;
  #isLooking = false;

  /** Without a probe the sinks wake each other alone. */
  constructor(probe: LinkProbe | null = null) {
    this.#probe = probe;
  }

  /** `wake` is called at most once, until the sink sleeps again. */
  sleeps(sink: string, wake: () => void, address: FarAddress | null = null): void {
    this.#sleepers.set(sink, { wake, address });
    this.#schedule();
  }

  awake(sink: string): void {
    this.#sleepers.delete(sink);
    if (this.#sleepers.size > 0) return;
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** A sink that was away delivers again; left out: a probe has reached its far side. */
  reached(sink?: string): void {
    this.#silent.clear();
    const sleepers = [...this.#sleepers];
    this.#sleepers.clear();
    for (const [name, { wake }] of sleepers) if (name !== sink) wake();
  }

  #schedule(): void {
    const isNeeded = [...this.#sleepers.values()].some(({ address }) => address !== null);
    if (this.#probe === null || this.#timer !== null || this.#isLooking || !isNeeded) return;
    this.#timer = this.#probe.clock.after(probeEveryMs, () => {
      this.#timer = null;
      // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
      this.#look();
    });
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    const looks = [...this.#sleepers].map(async ([sink, { address }]) => {
      if (address === null || this.#probe === null) return false;
      if (await this.#probe.answers(address)) return this.#silent.delete(sink);
      this.#silent.add(sink);
      return false;
    });
    const isBack = (await Promise.all(looks)).includes(true);
    this.#isLooking = false;
    if (isBack) this.reached();
    else this.#schedule();
  }
}

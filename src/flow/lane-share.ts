/**
 * Which of two lanes sends next, when both have something: each gets its share of the bytes. A lane that had nothing
 * saves nothing up: it begins where the other one is, and goes first.
 *
 * With both always full, no lane is ever ahead of its share by more than one batch.
 */
export type Lane = "live" | "backlog";

export class LaneShare {
  readonly #weight: Readonly<Record<Lane, number>>;
  /** Bytes sent, each lane's divided by its weight. */
  readonly #spent: Record<Lane, number> = { live: 0, backlog: 0 };
  #had: Readonly<Record<Lane, boolean>> = { live: false, backlog: false };

  /** `backlogShare`: between 0 and 1. */
  constructor(backlogShare: number) {
    this.#weight = { live: 1 - backlogShare, backlog: backlogShare };
  }

  choose(has: Readonly<Record<Lane, boolean>>): Lane | null {
    for (const [lane, other] of [
      ["live", "backlog"],
      ["backlog", "live"],
    ] as const) {
      if (has[lane] && !this.#had[lane])
        this.#spent[lane] = Math.max(this.#spent[lane], this.#spent[other]);
    }
    this.#had = has;
    if (!has.live) return has.backlog ? "backlog" : null;
    if (!has.backlog) return "live";
    return this.#spent.backlog < this.#spent.live ? "backlog" : "live";
  }

  sent(lane: Lane, bytes: number): void {
    this.#spent[lane] += bytes / this.#weight[lane];
  }
}

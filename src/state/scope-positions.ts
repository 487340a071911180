/**
 * The positions of one scope in memory, for a store that one process has to itself: ranges as of the last compaction,
 * and the IDs that were dealt with since.
 */
import { HoldfastError } from "../core/errors.ts";
import { holds, passed, union, type IdRange } from "./positions.ts";
import type { GroupProgress } from "./state.ts";

/** At 100 events a commit, 1,000 commits without a compaction: twenty times what is usual. */
export const rangesMax = 100_000;
export const scopesMax = 64;

/** After a replay: whose positions count as well, before which ID. */
export interface Origin {
  readonly scope: string;
  readonly bound: bigint;
}

export class ScopePositions {
  readonly scope: string;
  readonly origin: Origin | null;
  /** Counts up by compactions. */
  used = 0;
  readonly #ranges: readonly IdRange[];
  readonly #since = new Set<bigint>();

  constructor(scope: string, ranges: readonly IdRange[] = [], origin: Origin | null = null) {
    this.scope = scope;
    this.origin = origin;
    this.#ranges = union(ranges);
  }

  holds(id: bigint): boolean {
    return this.#since.has(id) || holds(this.#ranges, id);
  }

  /** @throws HoldfastError STATE_UNAVAILABLE when so many more are too many before a compaction */
  checkRoom(count: number): void {
    if (this.#since.size + count <= rangesMax) return;
    const why = `More than ${rangesMax} positions of ${this.scope} could not be folded: too many entries are pending`;
    throw new HoldfastError("STATE_UNAVAILABLE", why);
  }

  add(ids: readonly bigint[]): void {
    for (const id of ids) this.#since.add(id);
  }

  ranges(): IdRange[] {
    return union([...this.#ranges, ...[...this.#since].map((id) => ({ first: id, last: id }))]);
  }

  compacted(progress: GroupProgress): ScopePositions {
    return new ScopePositions(this.scope, [...this.ranges(), ...passed(progress)], this.origin);
  }
}

/**
 * What a processor's state holds, and what of it has had its time.
 *
 * Looked at every few minutes, and before a batch when what was written since could have reached the bound: a batch may
 * pass it, the next takes no new keys until some are gone. Values that have had their time are as if they were not there
 * at once; they are removed with a unit of work of the same processor, `expiredAtOnce` at a time.
 */
import type { Context } from "../core/context.ts";
import type { Gauge } from "../core/metrics.ts";
import type { Journal, UnitOfWork } from "../journal/journal.ts";

/** A look reads through the state of all processors: 100,000 keys in some 50 ms of the journal's thread. */
const lookEveryMs = 5 * 60_000;
const expiredAtOnce = 1_000;

export interface StateBound {
  readonly maxKeys: number;
  readonly maxBytes: number;
}

type Writes = NonNullable<UnitOfWork["state"]>;

export class StateMeter {
  readonly #context: Context;
  readonly #journal: Pick<Journal, "readStateSpaces" | "readEndedStates">;
  readonly #bound: StateBound;
  readonly #gauges: { readonly keys: Gauge; readonly bytes: Gauge };
  readonly #ended = new Set<string>();
  #keys = 0;
  #bytes = 0;
  #nextLookMs = 0;

  constructor(
    context: Context,
    journal: Pick<Journal, "readStateSpaces" | "readEndedStates">,
    bound: StateBound,
  ) {
    this.#context = context;
    this.#journal = journal;
    this.#bound = bound;
    const labels = { processor: context.name };
    this.#gauges = {
      keys: context.metrics.gauge("holdfast_state_keys", labels),
      bytes: context.metrics.gauge("holdfast_state_bytes", labels),
    };
  }

  /** Why no new key is taken; null: one is. */
  get problem(): string | null {
    const { maxKeys, maxBytes } = this.#bound;
    if (this.#keys >= maxKeys) return `The state holds ${this.#keys} keys: at most ${maxKeys}`;
    if (this.#bytes < maxBytes) return null;
    return `The state holds ${this.#bytes} bytes: at most ${maxBytes}`;
  }

  async look(): Promise<void> {
    const { clock, name } = this.#context;
    if (clock.monotonicMs() < this.#nextLookMs && this.problem === null) return;
    this.#nextLookMs = clock.monotonicMs() + lookEveryMs;
    const spaces = await this.#journal.readStateSpaces();
    const { keys = 0, bytes = 0 } = spaces.find(({ space }) => space === name) ?? {};
    [this.#keys, this.#bytes] = [keys, bytes];
    this.#gauges.keys.set(keys);
    this.#gauges.bytes.set(bytes);
    const ended = await this.#journal.readEndedStates(name, clock.wallMs(), expiredAtOnce);
    for (const key of ended) this.#ended.add(key);
  }

  /** The writes of a unit, and the removal of what has had its time and is not written by it. */
  withEnded(writes: Writes): Writes {
    if (this.#ended.size === 0) return writes;
    const space = this.#context.name;
    const own = new Set(writes.filter((write) => write.space === space).map(({ key }) => key));
    const gone = [...this.#ended].filter((key) => !own.has(key));
    return [...writes, ...gone.map((key) => ({ space, key, value: null }))];
  }

  /** A unit is durable. What was overwritten counts as added until the next look. */
  committed(writes: Writes): void {
    for (const { space, key, value } of writes) {
      if (space !== this.#context.name) continue;
      this.#ended.delete(key);
      this.#keys += value === null ? -1 : 1;
      this.#bytes += value === null ? -key.length : key.length + value.length;
    }
  }
}

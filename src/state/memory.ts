/**
 * A worker's store in process memory: for tests, and for state that may go with the process. Workers of one process may
 * share it. Bounds: none of its own; what its handlers keep is what it holds.
 */
import type { Clock } from "../core/clock.ts";
import { before, holds, idNumber, passed, union, type IdRange } from "./positions.ts";
import type {
  ExpiringWrite,
  GroupProgress,
  OutboxRow,
  WorkerCommit,
  WorkerStore,
  WorkerUnit,
} from "./state.ts";

export class MemoryStore implements WorkerStore {
  readonly id = crypto.randomUUID();
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #state = new Map<string, Pick<ExpiringWrite, "value" | "expiresAt">>();
  readonly #ranges = new Map<string, IdRange[]>();
  /** After a replay: whose positions count as well, before which ID. */
  readonly #origins = new Map<string, { readonly scope: string; readonly bound: bigint }>();
  #outbox: OutboxRow[] = [];
  #lastN = 0;

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  get(space: string, key: string): Promise<Uint8Array | null> {
    return Promise.resolve(this.#value(space, key));
  }

  commit(unit: WorkerUnit): Promise<WorkerCommit> {
    const ranges = this.#passed(unit.scope);
    const ids = unit.done.filter((id) => holds(ranges, idNumber(id)));
    if (ids.length > 0) return Promise.resolve({ result: "repeated", ids });
    const isChanged = unit.reads.some(({ space, key, value }) => {
      const now = this.#value(space, key);
      return value === null || now === null ? value !== now : Buffer.compare(value, now) !== 0;
    });
    if (isChanged) return Promise.resolve({ result: "conflict" });
    for (const write of unit.writes) {
      const at = placeOf(write.space, write.key);
      if (write.value === null) this.#state.delete(at);
      else this.#state.set(at, write);
    }
    for (const emit of unit.emits) this.#outbox.push({ ...emit, n: ++this.#lastN });
    const done = unit.done.map(idNumber).map((id) => ({ first: id, last: id }));
    this.#ranges.set(unit.scope, union([...(this.#ranges.get(unit.scope) ?? []), ...done]));
    return Promise.resolve({ result: "committed" });
  }

  isDone(scope: string, ids: readonly string[]): Promise<ReadonlySet<string>> {
    const ranges = this.#passed(scope);
    return Promise.resolve(new Set(ids.filter((id) => holds(ranges, idNumber(id)))));
  }

  readOutbox(after: number, max: number): Promise<readonly OutboxRow[]> {
    return Promise.resolve(this.#outbox.filter(({ n }) => n > after).slice(0, max));
  }

  releaseOutbox(n: number): Promise<void> {
    this.#outbox = this.#outbox.filter((row) => row.n > n);
    return Promise.resolve();
  }

  compact(scope: string, progress: GroupProgress): Promise<void> {
    this.#ranges.set(scope, union([...(this.#ranges.get(scope) ?? []), ...passed(progress)]));
    return Promise.resolve();
  }

  rewind(scope: string, from: string, next: string): Promise<void> {
    // What `scope` itself goes back to is its own from here on: the chain has one link.
    this.#ranges.set(scope, this.#passed(scope));
    this.#origins.delete(scope);
    this.#origins.set(next, { scope, bound: idNumber(from) });
    return Promise.resolve();
  }

  #passed(scope: string): IdRange[] {
    const own = this.#ranges.get(scope) ?? [];
    const origin = this.#origins.get(scope);
    if (origin === undefined) return own;
    return union([...own, ...before(this.#ranges.get(origin.scope) ?? [], origin.bound)]);
  }

  #value(space: string, key: string): Uint8Array | null {
    const found = this.#state.get(placeOf(space, key));
    if (found?.expiresAt !== undefined && found.expiresAt <= this.#clock.wallMs()) return null;
    return found?.value ?? null;
  }
}

function placeOf(space: string, key: string): string {
  return JSON.stringify([space, key]);
}

/**
 * Makes what a batch did durable, in one of two ways.
 *
 * In the backend (ValkeyState): state, emitted events, acknowledgements, failures and dead letters are one step of the
 * server; it is refused if an entry is not this worker's any more or a value that was read has changed.
 *
 * In a store that the workers of a host share (SQLite): state, positions and outbox are one transaction; then the
 * entries are settled at the server. Who comes in between finds the positions, and only acknowledges. What was handled and
 * is moved (a late event) is emitted with the rest: moved after the transaction, it could be handled twice or not moved.
 *
 * What has no effects of its own goes straight to the server.
 */
import type { GroupProgress, OutboxEvent, WorkerStore } from "../state/state.ts";
import type { Member, Settlement } from "./backend.ts";
import type { OutboxFlush } from "./outbox-flush.ts";

export interface UnitEffects {
  readonly reads: readonly { readonly key: string; readonly value: Uint8Array | null }[];
  readonly writes: readonly {
    readonly key: string;
    readonly value: Uint8Array | null;
    readonly expiresAt?: number;
  }[];
  readonly emits: readonly OutboxEvent[];
}

/** `again`: nothing happened; without those in `gone`, which are dealt with or another's, it is to be run again. */
export interface CommitResult {
  readonly again: boolean;
  readonly gone: readonly string[];
}

/** Whose positions: a life of the topic and the group. */
export function scopeOf(incarnation: string, group: string, topic: string): string {
  return `${incarnation}:${group}:${topic}`;
}

export interface Committer {
  readState(member: Member, key: string): Promise<Uint8Array | null>;
  commit(
    member: Member,
    scope: string,
    settlement: Settlement,
    effects: UnitEffects,
  ): Promise<CommitResult>;
  compact(scope: string, progress: GroupProgress): Promise<void>;
}

/** State lies in the backend. `space` is the worker's: its group and topic. */
export function inBackend(space: string): Committer {
  return {
    readState: (member, key) => member.readState(space, key),
    async commit(member, _scope, settlement, effects) {
      const isUnit = effects.writes.length + effects.emits.length > 0;
      const { result, lost } = await member.settle(
        isUnit ? { ...settlement, effects: inSpace(space, effects) } : settlement,
      );
      return { again: result === "refused", gone: lost };
    },
    compact: () => Promise.resolve(),
  };
}

/** State lies in a store that the group's workers share. `open` gives it, opened when it is first needed. */
export function inStore(
  space: string,
  open: () => Promise<WorkerStore>,
  outbox: OutboxFlush,
): Committer {
  let store: WorkerStore | undefined;
  const opened = async (): Promise<WorkerStore> => (store ??= await open());
  return {
    readState: async (_member, key) => (await opened()).get(space, key),
    async commit(member, scope, settlement, effects) {
      if (effects.writes.length + effects.emits.length === 0) {
        const { lost } = await member.settle(settlement);
        return { again: false, gone: lost };
      }
      const handled = settlement.moved.filter(({ isHandled }) => isHandled === true);
      const done = [...settlement.done, ...handled.map(({ id }) => id)];
      const emits = [...effects.emits, ...handled.map(({ topic, fields }) => ({ topic, fields }))];
      const unit = { scope, done, ...inSpace(space, { ...effects, emits }) };
      const commit = await (await opened()).commit(unit);
      if (commit.result === "conflict") return { again: true, gone: [] };
      if (commit.result === "repeated") {
        await member.settle({ done: commit.ids, failed: [], moved: [] });
        return { again: true, gone: commit.ids };
      }
      if (emits.length > 0) outbox.wake();
      const moved = settlement.moved.filter(({ isHandled }) => isHandled !== true);
      const { lost } = await member.settle({ ...settlement, done, moved });
      return { again: false, gone: lost };
    },
    async compact(scope, progress) {
      await store?.compact(scope, progress);
    },
  };
}

function inSpace(space: string, { reads, writes, emits }: UnitEffects) {
  return {
    reads: reads.map((read) => ({ space, ...read })),
    writes: writes.map((write) => ({ space, ...write })),
    emits,
  };
}

/** One worker's place in a group in process memory. */
import type { Clock } from "../core/clock.ts";
import type { GroupProgress } from "../state/state.ts";
import type { EncodedFields } from "../wire/wire.ts";
import type * as contract from "./backend.ts";
import { compareIds } from "./entry-id.ts";
import { indexBehind, type Group, type Pending, type Topic } from "./memory-topic.ts";

interface MemberParts {
  readonly topic: Topic;
  readonly group: Group;
  readonly membership: contract.Membership;
  readonly consumer: string;
  readonly clock: Clock;
  readonly write: (topic: string, fields: EncodedFields) => void;
}

export class MemoryMember implements contract.Member {
  readonly #parts: MemberParts;
  /** What it holds is being given again: behind which ID it goes on. Null: it is not. */
  #again: string | null = null;

  constructor(parts: MemberParts) {
    this.#parts = parts;
  }

  get consumer(): string {
    return this.#parts.consumer;
  }

  get incarnation(): string {
    return this.#parts.group.incarnation;
  }

  recover(after: string, max: number): Promise<contract.Batch> {
    return Promise.resolve(this.#handOut(this.#own(after, max)));
  }

  async read(
    max: number,
    waitMs: number,
    signal: AbortSignal,
    fromStart = false,
  ): Promise<contract.Batch> {
    const { topic, clock } = this.#parts;
    if (fromStart) this.#again = "";
    if (this.#again !== null) {
      const own = this.#own(this.#again, max);
      this.#again = own.at(-1)?.entry.id ?? null;
      if (own.length > 0) return this.#batch(own);
    }
    const look = (): contract.Batch | null => {
      const found = this.#next(max);
      return found.length > 0 ? this.#handOut(found) : null;
    };
    return (await topic.waiters.until(look, clock, waitMs, signal)) ?? this.#handOut([]);
  }

  reclaim(idleMs: number, max: number): Promise<contract.Batch> {
    const { group, clock } = this.#parts;
    const idle = [...group.pending.values()].filter(
      ({ sinceMs }) => clock.monotonicMs() - sinceMs >= idleMs,
    );
    return Promise.resolve(this.#handOut(idle.slice(0, max)));
  }

  renew(ids: readonly string[]): Promise<readonly string[]> {
    const { group, consumer, clock } = this.#parts;
    const lost = ids.filter((id) => group.pending.get(id)?.consumer !== consumer);
    for (const id of ids) {
      const pending = group.pending.get(id);
      if (pending?.consumer === consumer) pending.sinceMs = clock.monotonicMs();
    }
    return Promise.resolve(lost);
  }

  handOver(): Promise<void> {
    return Promise.resolve();
  }

  settle(settlement: contract.Settlement): Promise<contract.SettleResult> {
    const { group, consumer, write } = this.#parts;
    const lost: string[] = [];
    for (const { id, topic, fields } of settlement.moved) {
      if (group.pending.get(id)?.consumer !== consumer) {
        lost.push(id);
        continue;
      }
      group.pending.delete(id);
      write(topic, fields);
    }
    for (const { id, failures } of settlement.failed) {
      const pending = group.pending.get(id);
      if (pending?.consumer === consumer) pending.failures = failures;
      else lost.push(id);
    }
    for (const id of settlement.done) group.pending.delete(id);
    return Promise.resolve({ result: "settled", lost });
  }

  readState(): Promise<Uint8Array | null> {
    return Promise.resolve(null);
  }

  progress(max: number): Promise<GroupProgress | null> {
    const { last, pending } = this.#parts.group;
    if (pending.size > max) return Promise.resolve(null);
    const ids = [...pending.keys()].sort(compareIds);
    return Promise.resolve({ lastDelivered: last, pending: ids });
  }

  prune(): Promise<void> {
    return Promise.resolve();
  }

  lag(): Promise<{ waiting: number; pending: number }> {
    const { topic, group } = this.#parts;
    const waiting = topic.entries.length - indexBehind(topic, group.last);
    return Promise.resolve({ waiting, pending: group.pending.size });
  }

  leave(): Promise<void> {
    this.#parts.group.members.delete(this.#parts.consumer);
    this.#parts.topic.waiters.wakeAll();
    return Promise.resolve();
  }

  #own(after: string, max: number): Pending[] {
    const { group, consumer } = this.#parts;
    const own = [...group.pending.values()].filter(
      (each) =>
        each.consumer === consumer && (after === "" || compareIds(each.entry.id, after) > 0),
    );
    return own.sort((a, b) => compareIds(a.entry.id, b.entry.id)).slice(0, max);
  }

  #next(max: number): Pending[] {
    const { topic, group, membership, consumer, clock } = this.#parts;
    const found: Pending[] = [];
    if (membership.keyField !== undefined) {
      // Order by key: one member reads, the others stand by; it begins with what those before it left.
      const [first] = group.members;
      if (first !== consumer) return found;
      for (const pending of group.pending.values()) {
        if (!group.members.has(pending.consumer) && found.length < max) found.push(pending);
      }
      if (found.length > 0) return found.sort((a, b) => compareIds(a.entry.id, b.entry.id));
    }
    let index = indexBehind(topic, group.last);
    for (; index < topic.entries.length && found.length < max; index += 1) {
      const entry = topic.entries[index] as contract.Entry;
      const sinceMs = clock.monotonicMs();
      const pending = { entry, consumer, sinceMs, deliveries: 0, failures: 0 };
      group.pending.set(entry.id, pending);
      group.last = entry.id;
      found.push(pending);
    }
    if (found.length > 0) topic.waiters.wakeAll();
    return found;
  }

  #handOut(found: readonly Pending[]): contract.Batch {
    const { consumer, clock } = this.#parts;
    for (const pending of found) {
      pending.consumer = consumer;
      pending.sinceMs = clock.monotonicMs();
      pending.deliveries += 1;
    }
    return this.#batch(found);
  }

  #batch(found: readonly Pending[]): contract.Batch {
    const deliveries = found.map(({ entry, deliveries: count, failures }) => ({
      ...entry,
      deliveries: count,
      failures,
    }));
    const { incarnation } = this.#parts.group;
    return { incarnation, deliveries, dealtAnew: false, isHandingOver: false };
  }
}

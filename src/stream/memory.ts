/**
 * Streams in process memory: the same promises as a server's while the process lives, and none beyond it. For tests,
 * for one process by itself, and where no server can be had.
 *
 * Bounds: `entriesMax` entries for each topic; what some group has not read is never dropped for room, appending is
 * refused with STREAM_FULL instead.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { GroupProgress } from "../state/state.ts";
import { Waiters } from "../core/waiters.ts";
import type * as contract from "./backend.ts";
import { compareIds } from "./entry-id.ts";
import type { EncodedFields } from "../wire/wire.ts";
import { checkMembership } from "./topic-names.ts";

/** 100,000: about 50 MB of small events. */
const entriesMax = 100_000;
/** Producers whose marks are kept for each topic; the least recently used go. */
const producersMax = 1_024;

interface Pending {
  readonly entry: contract.Entry;
  consumer: string;
  sinceMs: number;
  deliveries: number;
  failures: number;
}

interface Group {
  incarnation: string;
  /** Everything up to here was handed out. */
  last: string;
  readonly pending: Map<string, Pending>;
  /** In the order in which they joined. */
  readonly members: Set<string>;
}

interface Topic {
  entries: contract.Entry[];
  lastMs: number;
  lastN: number;
  readonly groups: Map<string, Group>;
  readonly producers: Map<string, number>;
  readonly waiters: Waiters;
}

export interface MemoryBackendOptions {
  /** Left out: the machine's. */
  readonly clock?: Clock;
}

export class MemoryBackend implements contract.StreamBackend {
  readonly description = "memory";
  readonly keepsState = false;
  readonly #clock: Clock;
  readonly #topics = new Map<string, Topic>();
  #joined = 0;

  constructor(options: MemoryBackendOptions = {}) {
    this.#clock = options.clock ?? systemClock(() => "synced");
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    for (const topic of this.#topics.values()) topic.waiters.wakeAll();
    return Promise.resolve();
  }

  append(
    name: string,
    entries: readonly EncodedFields[],
    options: contract.AppendOptions = {},
  ): Promise<readonly (string | null)[]> {
    const topic = this.#topic(name);
    const most = Math.min(options.maxLength ?? entriesMax, entriesMax);
    if (!makeRoom(topic, entries.length, most)) {
      const why = `${name} holds ${topic.entries.length} entries, and some group has not read the oldest`;
      return Promise.reject(new HoldfastError("STREAM_FULL", why));
    }
    const { producer } = options;
    let passed = producer === undefined ? 0 : (topic.producers.get(producer.id) ?? 0);
    const ids = entries.map((fields, index) => {
      if (producer !== undefined) {
        const n = producer.ns?.[index] ?? producer.first + index;
        if (n <= passed) return null;
        passed = n;
      }
      const id = this.#nextId(topic);
      topic.entries.push({ id, fields: fields.map(bytesOf) });
      return id;
    });
    if (producer !== undefined) {
      topic.producers.delete(producer.id);
      topic.producers.set(producer.id, passed);
      if (topic.producers.size > producersMax) {
        for (const oldest of topic.producers.keys()) {
          topic.producers.delete(oldest);
          break;
        }
      }
    }
    topic.waiters.wakeAll();
    return Promise.resolve(ids);
  }

  async join(membership: contract.Membership): Promise<contract.Member> {
    checkMembership(membership);
    const topic = this.#topic(membership.topic);
    let group = topic.groups.get(membership.group);
    if (group === undefined) {
      group = {
        incarnation: crypto.randomUUID(),
        last: this.#startOf(topic, membership.from),
        pending: new Map(),
        members: new Set(),
      };
      topic.groups.set(membership.group, group);
    }
    this.#joined += 1;
    const consumer = membership.consumer ?? `memory-${this.#joined}`;
    group.members.add(consumer);
    const write = (to: string, fields: EncodedFields): void => {
      void this.append(to, [fields]);
    };
    return new MemoryMember({ topic, group, membership, consumer, clock: this.#clock, write });
  }

  range(name: string, from: string, max: number): Promise<readonly contract.Entry[]> {
    const { entries } = this.#topic(name);
    const isBehind = from.startsWith("(");
    const first = isBehind ? from.slice(1) : from;
    const isFrom = (id: string): boolean => compareIds(id, idOf(first)) >= (isBehind ? 1 : 0);
    const found = from === "-" ? entries : entries.filter(({ id }) => isFrom(id));
    return Promise.resolve(found.slice(0, max));
  }

  rewind(name: string, groupName: string, from: string, incarnation: string): Promise<void> {
    const topic = this.#topic(name);
    const group = topic.groups.get(groupName);
    if (group !== undefined) {
      const before = topic.entries.findLast(({ id }) => compareIds(id, idOf(from)) < 0);
      group.last = before?.id ?? "0-0";
      group.incarnation = incarnation;
      topic.waiters.wakeAll();
    }
    return Promise.resolve();
  }

  async move(name: string, id: string, to: string, fields: EncodedFields): Promise<boolean> {
    if ((await this.remove(name, [id])) === 0) return false;
    await this.append(to, [fields]);
    return true;
  }

  remove(name: string, ids: readonly string[]): Promise<number> {
    const topic = this.#topic(name);
    const before = topic.entries.length;
    const gone = new Set(ids);
    topic.entries = topic.entries.filter(({ id }) => !gone.has(id));
    return Promise.resolve(before - topic.entries.length);
  }

  length(name: string): Promise<number> {
    return Promise.resolve(this.#topic(name).entries.length);
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = {
        entries: [],
        lastMs: 0,
        lastN: 0,
        groups: new Map(),
        producers: new Map(),
        waiters: new Waiters(),
      };
      this.#topics.set(name, topic);
    }
    return topic;
  }

  #nextId(topic: Topic): string {
    const ms = Math.max(Math.floor(this.#clock.wallMs()), topic.lastMs);
    topic.lastN = ms === topic.lastMs ? topic.lastN + 1 : 0;
    topic.lastMs = ms;
    return `${ms}-${topic.lastN}`;
  }

  #startOf(topic: Topic, from: contract.Membership["from"]): string {
    if (from === "start") return "0-0";
    if (from === "now") return `${topic.lastMs}-${topic.lastN}`;
    return (
      topic.entries.findLast(({ id }) => compareIds(id, `${Math.floor(from)}-0`) < 0)?.id ?? "0-0"
    );
  }
}

interface MemberParts {
  readonly topic: Topic;
  readonly group: Group;
  readonly membership: contract.Membership;
  readonly consumer: string;
  readonly clock: Clock;
  readonly write: (topic: string, fields: EncodedFields) => void;
}

class MemoryMember implements contract.Member {
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
      if (group.pending.get(id)?.consumer !== consumer) lost.push(id);
      else if (group.pending.delete(id)) write(topic, fields);
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

function makeRoom(topic: Topic, count: number, most: number): boolean {
  const over = topic.entries.length + count - most;
  if (over <= 0) return true;
  let free = over;
  for (const group of topic.groups.values()) {
    const [oldest] = [...group.pending.keys()].sort(compareIds);
    const passed =
      oldest === undefined ? indexBehind(topic, group.last) : indexBehind(topic, oldest) - 1;
    free = Math.min(free, Math.max(0, passed));
  }
  topic.entries.splice(0, free);
  return free >= over;
}

/** Where the first entry behind `id` stands. */
function indexBehind(topic: Topic, id: string): number {
  let [low, high] = [0, topic.entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareIds((topic.entries[middle] as contract.Entry).id, id) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function idOf(from: string): string {
  return from.includes("-") ? from : `${from}-0`;
}

function bytesOf(value: string | Uint8Array): Uint8Array {
  return typeof value === "string" ? Buffer.from(value) : value;
}

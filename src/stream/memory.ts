/**
 * Streams in process memory: the same promises as a server's while the process lives, and none beyond it. For tests,
 * for one process by itself, and where no server can be had.
 *
 * Bounds: `entriesMax` entries for each topic; what some group has not read is never dropped for room, appending is
 * refused with STREAM_FULL instead.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import { Waiters } from "../core/waiters.ts";
import type * as contract from "./backend.ts";
import { compareIds } from "./entry-id.ts";
import type { EncodedFields } from "../wire/wire.ts";
import { MemoryMember } from "./memory-member.ts";
import { makeRoom, type Topic } from "./memory-topic.ts";
import { checkMembership } from "./topic-names.ts";

/** 100,000: about 50 MB of small events. */
const entriesMax = 100_000;
/** Producers whose marks are kept for each topic; the least recently used go. */
const producersMax = 1_024;

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

function idOf(from: string): string {
  return from.includes("-") ? from : `${from}-0`;
}

function bytesOf(value: string | Uint8Array): Uint8Array {
  return typeof value === "string" ? Buffer.from(value) : value;
}

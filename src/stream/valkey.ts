/**
 * Streams on a Valkey or Redis server (6.2 or later): one server, a unix socket, TLS, Sentinel or Cluster.
 *
 * Appending is one server-side script for a whole batch: ten times as fast as a command for each entry. It skips what
 * its producer has appended before, so that an append whose answer was lost may be repeated; and where a topic is
 * bounded it makes room first, never out of what some group has not read.
 *
 * On a cluster all keys of one step must share a slot: a topic that has a hash tag (`{readings}`) keeps its dead
 * letters, retries and state with it, since their names hold its own.
 *
 * Durable is what the server makes durable: `appendonly yes` with `appendfsync always` for each answer, `everysec`
 * for all but the last second.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type * as contract from "./backend.ts";
import { fieldsMax } from "../wire/encodings.ts";
import type { EncodedFields } from "../wire/wire.ts";
import { idBefore } from "./entry-id.ts";
import { ValkeyConnection, type Argument, type ValkeyOptions } from "../valkey/connection.ts";
import { incarnationKey, membersKey, producerKey } from "./valkey-keys.ts";
import { comeBack, deal, handOver } from "./valkey-deal.ts";
import {
  append,
  join,
  move,
  name,
  prune,
  renew,
  rewind,
  settle,
  take,
  unname,
  valuesMax,
} from "./valkey-scripts.ts";
import { ValkeyMember } from "./valkey-member.ts";
import { checkMembership, hashTag } from "./topic-names.ts";

const scripts = {
  append,
  join,
  rewind,
  take,
  renew,
  settle,
  move,
  deal,
  handOver,
  comeBack,
  prune,
  name,
  unname,
};

/** How long a producer's mark outlives its last append, ms: a day, in which whoever sends again has done so. */
const markMs = 86_400_000;

export interface ValkeyBackendOptions extends ValkeyOptions {
  /** Left out: the machine's. */
  readonly clock?: Clock;
}

export class ValkeyBackend implements contract.StreamBackend {
  readonly keepsState = true;
  readonly #options: ValkeyBackendOptions;
  readonly #clock: Clock;
  readonly #main: ValkeyConnection;
  readonly #members = new Set<ValkeyMember>();
  /** Several backends may live in one process. */
  readonly #instance = crypto.randomUUID();
  #joined = 0;

  constructor(options: ValkeyBackendOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock(() => "synced");
    this.#main = new ValkeyConnection(options, scripts);
  }

  get description(): string {
    return `server ${this.#main.description}`;
  }

  /** @throws HoldfastError when the server does not answer */
  async open(): Promise<void> {
    await this.#main.open();
  }

  async close(): Promise<void> {
    const members = [...this.#members];
    this.#members.clear();
    await Promise.allSettled(members.map((member) => member.leave()));
    this.#main.close();
  }

  async append(
    topic: string,
    entries: readonly EncodedFields[],
    options: contract.AppendOptions = {},
  ): Promise<readonly (string | null)[]> {
    if (entries.length === 0) return [];
    this.#checkTag(topic);
    const { maxLength = 0, producer } = options;
    const keys = [topic];
    if (producer !== undefined) keys.push(producerKey(topic, producer.id));
    const args: Argument[] = [entries.length, maxLength, markMs];
    entries.forEach((fields, index) => {
      if (fields.length > fieldsMax * 2) {
        const why = `An event for ${topic} has ${fields.length / 2} fields: at most ${fieldsMax} fit into an entry`;
        throw new HoldfastError("EVENT_TOO_LARGE", why);
      }
      const n = producer?.ns?.[index] ?? (producer?.first ?? 0) + index;
      args.push(n, fields.length);
      for (const value of fields) args.push(value);
    });
    const ids = (await this.#main.script("append", keys, args)) as (Buffer | null)[];
    return ids.map((id) => (id === null ? null : String(id)));
  }

  async join(membership: contract.Membership): Promise<contract.Member> {
    checkMembership(membership);
    this.#checkTag(membership.topic);
    const blocking = new ValkeyConnection(this.#options, scripts);
    this.#joined += 1;
    const member = new ValkeyMember({
      clock: this.#clock,
      main: this.#main,
      blocking,
      membership,
      isCluster: this.#options.mode === "cluster",
      instance: `${this.#instance}-${this.#joined}`,
    });
    try {
      await blocking.open();
      await member.join();
    } catch (thrown) {
      await member.leave().catch(() => undefined);
      throw thrown;
    }
    this.#members.add(member);
    return member;
  }

  async range(topic: string, from: string, max: number): Promise<readonly contract.Entry[]> {
    const rows = (await this.#main.call("XRANGE", topic, from, "+", "COUNT", max)) as [
      Buffer,
      Buffer[],
    ][];
    return rows.map(([id, fields]) => ({ id: String(id), fields }));
  }

  async rewind(topic: string, group: string, from: string, incarnation: string): Promise<void> {
    const keys = [topic, incarnationKey(group, topic), membersKey(group, topic)];
    await this.#main.script("rewind", keys, [group, idBefore(from), incarnation]);
  }

  async move(topic: string, id: string, to: string, fields: EncodedFields): Promise<boolean> {
    if (fields.length <= valuesMax) {
      return (await this.#main.script("move", [topic, to], [id, ...fields])) === 1;
    }
    // More than a script can write goes in two steps: a crash between them leaves it in both topics.
    if ((await this.range(topic, id, 1))[0]?.id !== id) return false;
    await this.#main.call("XADD", to, "*", ...fields);
    return (await this.remove(topic, [id])) === 1;
  }

  async remove(topic: string, ids: readonly string[]): Promise<number> {
    return ids.length === 0 ? 0 : Number(await this.#main.call("XDEL", topic, ...ids));
  }

  async length(topic: string): Promise<number> {
    return Number(await this.#main.call("XLEN", topic));
  }

  /** @throws HoldfastError STREAM_INVALID when a cluster would keep the topic's keys on different nodes */
  #checkTag(topic: string): void {
    if (this.#options.mode !== "cluster" || hashTag(topic) !== null) return;
    const why = `Topic ${topic} has no hash tag: a cluster would keep it and its retries, dead letters and state on different nodes; name it {${topic}}`;
    throw new HoldfastError("STREAM_INVALID", why);
  }
}

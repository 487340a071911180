/**
 * What the embedded broker remembers for its clients, in memory and bounded: aedes' persistence interface
 * (aedes-persistence, README), whose own implementation keeps whatever it is given for as long as the process lives.
 *
 * It is lost when the agent ends, which MQTT allows a broker to say (CONNACK without a session); what was
 * acknowledged to publishers is in the journal, not here.
 *
 * Bounds: `sessions` clients that asked to be remembered (the one that is away the longest is forgotten),
 * `queue` messages for each of them, `memoryBytes` for their messages and the retained ones together. What is beyond
 * a bound is not kept, and counted. `BrokerIdentifiers` bounds what QoS 2 needs, `BrokerFilters` what is subscribed to.
 */
import { Readable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import type { BrokerFilters } from "./broker-filters.ts";
import type { BrokerIdentifiers } from "./broker-identifiers.ts";
import { matchesFilter } from "./topic-filter.ts";

interface Client {
  readonly id: string;
}

export interface Subscription {
  readonly topic: string;
  readonly qos: number;
  readonly rh?: number;
  readonly rap?: boolean;
  readonly nl?: boolean;
}

/** aedes' Packet, as far as it is looked at here. */
export interface BrokerPacket {
  readonly cmd: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly brokerCounter: number;
  messageId?: number | undefined;
}

interface Session {
  readonly subscriptions: Map<string, Subscription>;
  /** By the number that aedes gives to each message, in order. */
  readonly queue: Map<number, BrokerPacket>;
  readonly numbers: Map<number, number>;
}

export interface SessionBounds {
  readonly sessions: number;
  readonly queue: number;
  readonly memoryBytes: number;
}

/** What a kept message costs beside topic and payload: the object, two map entries (heap snapshot: 300 to 350). */
const overheadBytes = 350;
/** As many topics as topic-pattern.ts remembers; kept in `subscriptionsByTopic`. */
const rememberedTopicsMax = 4096;
/** Retained messages held against filters, between turns of the event loop: about 1 ms. */
const looksPerTurn = 2_000;
/**
 * aedes tells a client of a kept session only if there are subscriptions to restore; identifiers are as good a
 * reason [MQTT-3.2.2-2]. Nobody may subscribe to this one, so it restores nothing.
 */
export const sessionTopic = "$holdfast/session";

export class BrokerSessions {
  readonly #bounds: SessionBounds;
  readonly #identifiers: BrokerIdentifiers;
  readonly #filters: BrokerFilters;
  /** SUBSCRIBEs that are in their sessions: aedes hands over each as a whole, once for each of its filters. */
  readonly #stored = new WeakSet<object>();
  readonly #isOnline: (clientId: string) => boolean;
  readonly #isAdmitted: (client: object) => boolean;
  readonly #sessions = new Map<string, Session>();
  readonly #retained = new Map<string, BrokerPacket>();
  readonly #wills = new Map<string, object>();
  /** Topic to who is to be kept it for: asked for every publish, and nearly always the same. */
  #keptFor = new Map<string, { clientId: string; topic: string }[]>();
  #bytes = 0;
  #refused = 0;

  constructor(
    bounds: SessionBounds,
    identifiers: BrokerIdentifiers,
    filters: BrokerFilters,
    who: { isOnline(clientId: string): boolean; isAdmitted(client: object): boolean },
  ) {
    this.#bounds = bounds;
    this.#identifiers = identifiers;
    this.#filters = filters;
    this.#isOnline = (clientId) => who.isOnline(clientId);
    this.#isAdmitted = (client) => who.isAdmitted(client);
  }

  get figures(): { sessions: number; keptBytes: number; notKept: number; filters: number } {
    const [sessions, filters] = [this.#sessions.size, this.#filters.size];
    return { sessions, keptBytes: this.#bytes, notKept: this.#refused, filters };
  }

  async setup(): Promise<void> {}

  async storeRetained(packet: BrokerPacket): Promise<void> {
    const before = this.#retained.get(packet.topic);
    if (before !== undefined) {
      this.#bytes -= bytesOf(before);
      this.#retained.delete(packet.topic);
    }
    // [MQTT-3.3.1-10], [MQTT-3.3.1-11]: an empty one only takes the last one away.
    if (packet.payload.length === 0) return;
    const kept = copyOf(packet);
    if (this.#hasRoomFor(kept)) this.#retained.set(packet.topic, kept);
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(this.#retainedFor(filters));
  }

  /** Others have their turn meanwhile: all filters times all that is retained may be many. */
  async *#retainedFor(filters: readonly string[]): AsyncGenerator<BrokerPacket> {
    const exact = new Set(filters);
    const wild = filters.filter((filter) => /[+#]/.test(filter));
    // As it is now: what is published meanwhile comes to the subscriber by itself.
    const kept = [...this.#retained.values()];
    let looks = 0;
    for (const packet of kept) {
      looks += 1 + wild.length;
      if (looks >= looksPerTurn) {
        looks = 0;
        await turn();
      }
      const { topic } = packet;
      if (exact.has(topic) || wild.some((filter) => matchesFilter(filter, topic))) yield packet;
    }
  }

  async addSubscriptions({ id }: Client, subscriptions: readonly Subscription[]): Promise<void> {
    if (this.#stored.has(subscriptions)) return;
    this.#stored.add(subscriptions);
    // aedes asks for all of them in this turn, and answers when this has resolved.
    await Promise.resolve();
    const session = this.#sessions.get(id) ?? this.#newSession(id);
    this.#keptFor.clear();
    for (const { topic, qos, rh, rap, nl } of subscriptions) {
      if (!this.#filters.has(id, topic)) continue;
      const kept = { ...(rh !== undefined && { rh }), ...(rap && { rap }), ...(nl && { nl }) };
      session.subscriptions.set(topic, { topic, qos, ...kept });
    }
  }

  async removeSubscriptions({ id }: Client, topics: readonly string[]): Promise<void> {
    this.#keptFor.clear();
    for (const topic of topics) this.#sessions.get(id)?.subscriptions.delete(topic);
  }

  async subscriptionsByClient({ id }: Client): Promise<Subscription[]> {
    const found = [...(this.#sessions.get(id)?.subscriptions.values() ?? [])];
    if (found.length === 0 && this.#identifiers.has(id)) return [{ topic: sessionTopic, qos: 0 }];
    return found;
  }

  /** For whom a message is to be kept: each client once, however many of its subscriptions match. */
  async subscriptionsByTopic(topic: string): Promise<{ clientId: string; topic: string }[]> {
    const known = this.#keptFor.get(topic);
    if (known !== undefined) return known;
    const found: { clientId: string; topic: string }[] = [];
    for (const [clientId, { subscriptions }] of this.#sessions) {
      for (const { topic: filter, qos } of subscriptions.values()) {
        if (qos === 0 || !matchesFilter(filter, topic)) continue;
        found.push({ clientId, topic: filter });
        break;
      }
    }
    if (this.#keptFor.size >= rememberedTopicsMax) this.#keptFor.clear();
    this.#keptFor.set(topic, found);
    return found;
  }

  /** The client went away: it is now the last one to be forgotten. */
  left(id: string): void {
    const session = this.#sessions.get(id);
    if (session === undefined) {
      this.#filters.forget(id);
      return;
    }
    this.#sessions.delete(id);
    this.#sessions.set(id, session);
  }

  async cleanSubscriptions({ id }: Client): Promise<void> {
    this.#forget(id);
  }

  async outgoingEnqueue(subscription: { clientId: string }, packet: BrokerPacket): Promise<void> {
    this.#enqueue(subscription.clientId, copyOf(packet));
  }

  async outgoingEnqueueCombi(
    subscriptions: readonly { clientId: string }[],
    packet: BrokerPacket,
  ): Promise<void> {
    if (subscriptions.length === 0) return;
    const kept = copyOf(packet);
    // An entry of its own for each: they get different identifiers.
    for (const { clientId } of subscriptions) this.#enqueue(clientId, { ...kept });
  }

  /** A message gets its identifier, or becomes its PUBREL. One that was not kept is sent all the same. */
  async outgoingUpdate({ id }: Client, packet: BrokerPacket): Promise<void> {
    const session = this.#sessions.get(id);
    if (session === undefined || packet.messageId === undefined) return;
    const isRelease = packet.cmd === "pubrel";
    const number = isRelease ? session.numbers.get(packet.messageId) : packet.brokerCounter;
    const kept = number === undefined ? undefined : session.queue.get(number);
    if (number === undefined || kept === undefined) return;
    kept.messageId = packet.messageId;
    session.numbers.set(packet.messageId, number);
    if (!isRelease) return;
    const release = { ...kept, cmd: "pubrel", topic: "", payload: new Uint8Array() };
    this.#bytes += bytesOf(release) - bytesOf(kept);
    session.queue.set(number, release);
  }

  /** PUBACK or PUBCOMP came. */
  async outgoingClearMessageId(
    { id }: Client,
    { messageId }: { messageId?: number },
  ): Promise<BrokerPacket | undefined> {
    const session = this.#sessions.get(id);
    const number = messageId === undefined ? undefined : session?.numbers.get(messageId);
    if (session === undefined || messageId === undefined || number === undefined) return undefined;
    const kept = session.queue.get(number);
    session.numbers.delete(messageId);
    session.queue.delete(number);
    if (kept !== undefined) this.#bytes -= bytesOf(kept);
    return kept;
  }

  outgoingStream({ id }: Client): Readable {
    return Readable.from([...(this.#sessions.get(id)?.queue.values() ?? [])]);
  }

  /** aedes asks before it stores a PUBLISH, and when a PUBREL comes; rejecting says "unknown". */
  async incomingGetPacket({ id }: Client, packet: BrokerPacket): Promise<BrokerPacket> {
    const messageId = packet.messageId ?? 0;
    const isKnown =
      packet.cmd === "pubrel"
        ? this.#identifiers.find(id, messageId) !== undefined
        : !this.#identifiers.isFirst(id, messageId);
    if (!isKnown) throw new Error("No such packet");
    return packet;
  }

  /** Its identifier is kept since it came; its payload is in the journal. */
  async incomingStorePacket(): Promise<void> {}

  async incomingDelPacket({ id }: Client, { messageId }: { messageId: number }): Promise<void> {
    this.#identifiers.end(id, messageId);
  }

  async cleanIncoming(client: Client): Promise<void> {
    // aedes calls this for a client that it turned away, too: that one must not touch another's session.
    if (this.#isAdmitted(client)) this.#identifiers.forget(client.id);
  }

  async putWill({ id }: Client, will: object): Promise<void> {
    this.#wills.set(id, will);
  }

  async delWill({ id }: Client): Promise<object | undefined> {
    const will = this.#wills.get(id);
    this.#wills.delete(id);
    return will;
  }

  /** Wills of other brokers that died: there are none. */
  streamWill(): Readable {
    return Readable.from([]);
  }

  #newSession(id: string): Session {
    if (this.#sessions.size >= this.#bounds.sessions) {
      for (const other of this.#sessions.keys()) {
        if (this.#isOnline(other)) continue;
        this.#forget(other);
        break;
      }
    }
    const session = { subscriptions: new Map(), queue: new Map(), numbers: new Map() };
    this.#sessions.set(id, session);
    return session;
  }

  #forget(id: string): void {
    this.#filters.forget(id);
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    this.#sessions.delete(id);
    this.#keptFor.clear();
    for (const kept of session.queue.values()) this.#bytes -= bytesOf(kept);
  }

  #enqueue(id: string, packet: BrokerPacket): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    if (session.queue.size >= this.#bounds.queue) this.#refused++;
    else if (this.#hasRoomFor(packet)) session.queue.set(packet.brokerCounter, packet);
  }

  /** Takes it if so. */
  #hasRoomFor(packet: BrokerPacket): boolean {
    const bytes = bytesOf(packet);
    if (this.#bytes + bytes > this.#bounds.memoryBytes) {
      this.#refused++;
      return false;
    }
    this.#bytes += bytes;
    return true;
  }
}

/** With memory of its own: the payload lies in a chunk of the socket's, 64 KiB that it would keep alive. */
function copyOf(packet: BrokerPacket): BrokerPacket {
  const payload = Buffer.allocUnsafeSlow(packet.payload.length);
  payload.set(packet.payload);
  return { ...packet, payload };
}

function bytesOf(packet: BrokerPacket): number {
  return packet.payload.length + packet.topic.length + overheadBytes;
}

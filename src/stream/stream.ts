/**
 * `Stream`: topics with durability, replay, consumer groups and effects that happen exactly once, for TypeScript.
 *
 * It puts replaceable parts together: a backend keeps the topics (`ValkeyBackend`, `MemoryBackend`, your own), a schema
 * says what an event is, a store keeps what handlers remember (`SqliteStore`; `"valkey"`: beside the stream itself). With
 * no backend given it takes the server at VALKEY_URL, or on this machine, and falls back to memory, saying so.
 *
 * It promises:
 * - `emit` resolves when the event is stored; while the server is away it waits, and repeats without doubling.
 * - An event's state changes, emitted events and acknowledgement happen together, once, whatever is killed when. What a
 *   handler does to the world outside may happen again after a crash.
 * - An event that fails is tried again after a back-off, while its neighbours go on; after the last attempt it is in
 *   `{topic}-dlq` with all that is known of it.
 *
 * It does not promise order between events without a common `key`.
 */
import { keepAlive, systemClock, type Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import { systemRandom } from "../core/random.ts";
import { onStopSignals } from "../core/signals.ts";
import type { OutboxEvent, WorkerStore } from "../state/state.ts";
import { AppendQueue } from "./append-queue.ts";
import type { StreamBackend } from "./backend.ts";
import { inBackend, inStore, scopeOf, type Committer } from "./committer.ts";
import { DeadLetters } from "./dead-letters.ts";
import { defaultLog } from "./default-log.ts";
import { checkOutgoing, type Schema } from "./event-schema.ts";
import { defaultStore, openBackend } from "./opening.ts";
import { OutboxFlush } from "./outbox-flush.ts";
import { metricsText, subscriptionHealth, type StreamHealth } from "./stream-health.ts";
import {
  createSubscription,
  keyOf,
  type SubscribeOptions,
  type Subscription,
} from "./subscription.ts";
import { traceEmit } from "./tracing.ts";
import { encodings, sizeOf } from "../wire/encodings.ts";
import type { OutgoingEvent } from "../wire/wire.ts";
import type { BatchHandler, EmitOptions, EventHandler, Handling } from "./worker-handler.ts";

export interface StreamOptions<P> extends SubscribeOptions<P> {
  readonly topic: string;
  /** Left out: the server at VALKEY_URL or valkey://localhost:6379, else memory. */
  readonly backend?: StreamBackend;
  /** `"valkey"`: state lies beside the stream, for workers on many hosts. Left out: a SQLite file of the group's on this host. */
  readonly state?: WorkerStore | "valkey";
  /** `pspf` (default) is what Python's PSPF reads and writes; `compact` is smaller and takes any JSON. Both are read. */
  readonly encoding?: "pspf" | "compact";
  /** The kind of event that `emit` writes, default GenericEvent. */
  readonly eventType?: string;
  /** The most entries that the topic may hold; what a group has not read is kept, and `emit` is refused instead. */
  readonly maxLength?: number;
  /** Left out: warnings go to stderr as Node's process warnings. */
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: () => number;
}

/** How long handlers that run, and their commit, may take when the stream stops, ms. */
const graceMs = 10_000;
interface Declared {
  readonly options: SubscribeOptions;
  readonly handling: Handling<never>;
}

export class Stream<P = Record<string, unknown>> implements AsyncDisposable {
  readonly #options: StreamOptions<P>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #declared: Declared[] = [];
  readonly #queues = new Map<string, AppendQueue>();
  readonly #outboxes: OutboxFlush[] = [];
  readonly #stores = new Map<string, Promise<WorkerStore>>();
  readonly #stopping = new AbortController();
  #backend: Promise<StreamBackend> | undefined;
  #subscriptions: Subscription[] = [];
  #started: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;

  constructor(options: StreamOptions<P>) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock(() => "synced");
    this.#log = options.log ?? defaultLog();
  }

  /** Handles events of this stream's topic, or with options of another one. Before `start`. */
  subscribe(handler: EventHandler<P>, options?: SubscribeOptions & { schema?: never }): this;
  subscribe<Q>(
    handler: EventHandler<Q>,
    options: SubscribeOptions<Q> & { schema: Schema<Q> },
  ): this;
  subscribe(handler: EventHandler<never>, options: object = {}): this {
    return this.#declare({ kind: "event", handler }, options);
  }

  /** Handles events in batches: all of a batch or none (worker-handler.ts). */
  subscribeBatch(handler: BatchHandler<P>, options?: SubscribeOptions & { schema?: never }): this;
  subscribeBatch<Q>(
    handler: BatchHandler<Q>,
    options: SubscribeOptions<Q> & { schema: Schema<Q> },
  ): this;
  subscribeBatch(handler: BatchHandler<never>, options: object = {}): this {
    return this.#declare({ kind: "batch", handler }, options);
  }

  /**
   * Resolves when stored: the entry's ID, or null where a try whose answer was lost had stored it.
   * @throws HoldfastError EVENT_INVALID when it does not fit the schema, EVENT_TOO_LARGE (nothing of a list is stored then),
   *   STREAM_FULL, STREAM_UNREACHABLE after a minute in vain
   */
  emit(payload: P, options?: EmitOptions): Promise<string | null>;
  emit(payloads: readonly P[], options?: EmitOptions): Promise<readonly (string | null)[]>;
  async emit(payload: P | readonly P[], options: EmitOptions = {}): Promise<unknown> {
    const { topic, schema } = this.#options;
    const isList = Array.isArray(payload);
    const payloads = (isList ? payload : [payload]) as readonly unknown[];
    const checked = payloads.map((each) =>
      schema === undefined ? each : checkOutgoing(schema, each),
    );
    const events = checked.map((each) => this.#outgoing(each, options));
    const subject = isList ? { count: events.length } : { id: events[0]?.id ?? "" };
    const ids = await traceEmit(topic, subject, async (trace) => {
      const encoded = events.map((event) => this.#encode(topic, { ...event, trace }));
      const queue = this.#queues.get(topic) ?? (await this.#queue(topic));
      return Promise.all(encoded.map(({ fields, bytes }) => queue.append(fields, bytes)));
    });
    return isList ? ids : ids[0];
  }

  /** Opens the backend and starts what was subscribed; resolves when all of it has joined its groups. */
  start(): Promise<void> {
    return (this.#started ??= this.#start());
  }

  /** Until SIGTERM, SIGINT or `stop`; rejects when a subscription cannot go on. A second signal ends the process. */
  async runForever(): Promise<void> {
    let stopping: () => void = () => undefined;
    const asked = new Promise<void>((resolve) => (stopping = resolve));
    using _signals = onStopSignals(() => stopping());
    using _alive = keepAlive(this.#clock);
    try {
      await Promise.race([asked, this.start()]);
      const ended = Promise.all(this.#subscriptions.map(({ worker }) => worker.ended()));
      await Promise.race([asked, ended]);
    } finally {
      await this.stop();
    }
  }

  /** Ends and commits what runs, sends what was emitted, closes everything. May be called twice. */
  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async health(): Promise<StreamHealth> {
    const backend =
      this.#backend === undefined ? "not opened yet" : (await this.#backend).description;
    const subscriptions = await Promise.all(this.#subscriptions.map(subscriptionHealth));
    const isWell = subscriptions.every(({ trouble }) => trouble === null);
    return { status: isWell ? "ok" : "degraded", backend, subscriptions };
  }

  /** PSPF's metrics of this worker in Prometheus' text format: serve it where a Prometheus can scrape it. */
  metrics(): Promise<string> {
    return metricsText(this.#subscriptions);
  }

  /** The dead letters of this stream's topic, or of another's. */
  deadLetters(topic: string = this.#options.topic): DeadLetters {
    return new DeadLetters(() => this.#open(), topic);
  }

  /**
   * Has a group handle again what lies from `from` on: a time, an entry's ID (`ms-n`), or `"start"`, the oldest. Its
   * state stays as it is. What is being handled meanwhile is handled once or twice.
   */
  async replay(
    from: Date | string,
    { topic = this.#options.topic, group = this.#group() }: { topic?: string; group?: string } = {},
  ): Promise<void> {
    const backend = await this.#open();
    const id = from instanceof Date ? `${from.getTime()}-0` : from === "start" ? "0-0" : from;
    if (!/^\d+-\d+$/.test(id)) {
      throw new HoldfastError("STREAM_INVALID", `${id} is neither a time nor an entry's ID (ms-n)`);
    }
    const next = crypto.randomUUID();
    await this.start();
    const joined = this.#subscriptions.find((each) => each.topic === topic && each.group === group);
    const member = joined?.worker.member;
    if (member === undefined) {
      throw new HoldfastError(
        "STREAM_INVALID",
        `Group ${group} of ${topic} is not subscribed to here`,
      );
    }
    if (this.#options.state !== "valkey") {
      const scope = (incarnation: string): string => scopeOf(incarnation, group, topic);
      const store = await this.#store(group);
      await store.rewind(scope(member.incarnation), id, scope(next));
    }
    await backend.rewind(topic, group, id, next);
  }

  #declare(handling: Handling<never>, options: SubscribeOptions): this {
    if (this.#started !== undefined) {
      throw new HoldfastError("STREAM_INVALID", "Subscribe before the stream is started");
    }
    this.#declared.push({ handling, options });
    return this;
  }

  async #start(): Promise<void> {
    const backend = await this.#open();
    this.#subscriptions = this.#declared.map(({ handling, options: own }) => {
      const { topic, schema, ...shared } = this.#options;
      const isOwnTopic = own.topic === undefined || own.topic === topic;
      const options = { ...shared, ...(isOwnTopic && { schema }), ...own } as SubscribeOptions;
      const group = own.group ?? this.#group();
      return createSubscription({
        topic: own.topic ?? topic,
        group,
        options,
        handling,
        backend,
        committer: this.#committer(backend, group, own.topic ?? topic),
        encode: (to, event) => this.#encode(to, event),
        log: this.#log,
        clock: this.#clock,
        random: this.#random(),
      });
    });
    // A store that was chosen is opened at once: that it cannot be is no event's fault.
    if (typeof this.#options.state === "object") {
      await this.#store("").catch((thrown: unknown) => {
        if (!(thrown instanceof HoldfastError) || thrown.kind !== "transient") throw thrown;
        this.#log.warn(thrown.message, { code: thrown.code });
      });
    }
    await Promise.all(this.#subscriptions.map(({ worker }) => worker.start()));
  }

  async #stop(): Promise<void> {
    using _alive = keepAlive(this.#clock);
    this.#stopping.abort();
    await this.#started?.catch(() => undefined);
    await Promise.all(this.#subscriptions.map(({ worker }) => worker.stop(graceMs)));
    await Promise.all([...this.#queues.values()].map((queue) => queue.drained()));
    await Promise.all(this.#outboxes.map((outbox) => outbox.stop(graceMs / 2)));
    const stores = await Promise.allSettled(this.#stores.values());
    for (const store of stores) if (store.status === "fulfilled") await store.value.close();
    const backend = await this.#backend?.catch(() => undefined);
    await backend?.close();
  }

  #committer(backend: StreamBackend, group: string, topic: string): Committer {
    const space = `${group}:${topic}`;
    if (this.#options.state === "valkey") {
      if (backend.keepsState) return inBackend(space);
      const why = `State beside the stream needs a server: the backend is ${backend.description}`;
      throw new HoldfastError("STREAM_INVALID", why);
    }
    const { log, random } = { log: this.#log, random: this.#random() };
    const outbox = new OutboxFlush({ backend, clock: this.#clock, log, random });
    this.#outboxes.push(outbox);
    const open = async (): Promise<WorkerStore> => {
      const store = await this.#store(group);
      outbox.start(store);
      return store;
    };
    return inStore(space, open, outbox);
  }

  /** The group's store, opened when it is first needed: a group without effects has none. */
  #store(group: string): Promise<WorkerStore> {
    const given = this.#options.state;
    const key = typeof given === "object" ? "" : group;
    let opening = this.#stores.get(key);
    if (opening === undefined) {
      opening = this.#openStore(typeof given === "object" ? given : defaultStore(group));
      this.#stores.set(key, opening);
      // What does not pass is told to who asked; what does is asked for again.
      opening.catch(() => this.#stores.delete(key));
    }
    return opening;
  }

  async #openStore(found: WorkerStore | Promise<WorkerStore>): Promise<WorkerStore> {
    const store = await found;
    try {
      await store.open();
    } catch (thrown) {
      await store.close();
      throw thrown;
    }
    return store;
  }

  #open(): Promise<StreamBackend> {
    return (this.#backend ??= openBackend({
      backend: this.#options.backend,
      topic: this.#options.topic,
      clock: this.#clock,
      log: this.#log,
      random: this.#random(),
      signal: this.#stopping.signal,
    }));
  }

  async #queue(topic: string): Promise<AppendQueue> {
    const backend = await this.#open();
    let queue = this.#queues.get(topic);
    if (queue === undefined) {
      const { maxLength } = this.#options;
      const bound = maxLength === undefined ? {} : { maxLength };
      const parts = { backend, topic, clock: this.#clock, random: this.#random(), ...bound };
      queue = new AppendQueue(parts);
      this.#queues.set(topic, queue);
    }
    return queue;
  }

  #outgoing(payload: unknown, options: EmitOptions): Omit<OutgoingEvent, "trace"> {
    const { key, eventType } = this.#options;
    return {
      id: crypto.randomUUID(),
      type: options.type ?? eventType ?? "GenericEvent",
      time: options.time ?? this.#clock.wallMs(),
      key: options.key ?? (key === undefined ? null : keyOf(payload, key)),
      payload,
    };
  }

  #encode(topic: string, event: OutgoingEvent): OutboxEvent & { bytes: number } {
    const fields = encodings[this.#options.encoding ?? "pspf"].encode(event);
    return { topic, fields, bytes: sizeOf(fields, topic) };
  }

  #group(): string {
    return this.#options.group ?? "default";
  }

  #random(): () => number {
    return this.#options.random ?? systemRandom;
  }
}

/**
 * The embedded broker, for devices that need something to talk to: aedes, and every PUBLISH on its way through it is
 * put into the journal first.
 *
 * aedes asks `authorizePublish` before it answers a PUBLISH of any QoS and before it stores or forwards it; the
 * question is answered by the journal's commit:
 *
 *   PUBLISH ─► gate ─► authorizePublish ─► intake ─► (commit) settled ─► PUBACK or PUBREC ─► subscribers
 *
 * QoS 1 and QoS 2 are at least once across a crash: PUBREC, like PUBACK, follows the commit, but the identifiers are
 * kept in memory, so what a client sends again after a crash is taken in again, with the header `dup`. While the
 * process lives QoS 2 is exactly once (broker-identifiers.ts). `$SYS` is aedes' own and never enters a stream.
 *
 * aedes knows MQTT 3.1 and 3.1.1 and refuses 5. It costs 13 MiB of memory, hence it is imported by `open`.
 */
import type { Server, Socket } from "node:net";
import type { Aedes, Client, PublishPacket } from "aedes";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { BrokerAccess } from "./broker-access.ts";
import { BrokerFilters, filtersMax } from "./broker-filters.ts";
import { BrokerGate } from "./broker-gate.ts";
import { BrokerIdentifiers } from "./broker-identifiers.ts";
import { openListener } from "./broker-listener.ts";
import { brokerProblem, type BrokerSourceOptions } from "./broker-options.ts";
import { BrokerSessions, sessionTopic } from "./broker-sessions.ts";
import { BrokerWindow, type Publisher } from "./broker-window.ts";
import { RareLog } from "./rare-log.ts";
import type { Intake, Source } from "./source.ts";
import { parseTopicPattern, TopicHeaders } from "./topic-pattern.ts";

/** For CONNECT, and for the TLS handshake before it: a slow 2G link needs a few seconds. */
const connectTimeoutMs = 10_000;
/** A subscriber that takes nothing for as long is cut off, for it holds up those who publish to it. */
const drainTimeoutMs = 10_000;
/** A packet is its payload, a topic of at most 64 KiB, and an identifier. */
const topicBytesMax = 64 * 1024 + 4;
/** Long enough for acknowledgements to leave over a slow link; after it the sockets are cut. */
const farewellMs = 500;
/** MQTT 3.1.1, 3.2.2.3: return codes of CONNACK. */
const [unavailable, badCredentials] = [3, 4] as const;

interface Connection {
  readonly gate: BrokerGate;
  readonly publisher: Publisher;
  user: string | undefined;
  isAdmitted: boolean;
  isGreeted: boolean;
}

export function createBrokerSource(context: Context, options: BrokerSourceOptions): Source {
  return new BrokerSource(context, options);
}

class BrokerSource implements Source {
  readonly #context: Context;
  readonly #options: BrokerSourceOptions;
  readonly #access: BrokerAccess;
  readonly #topics: TopicHeaders;
  readonly #rarely: RareLog;
  /** Of every client that aedes still knows: a will is published when its connection is gone. */
  readonly #connections = new WeakMap<object, Connection>();
  readonly #open = new Set<Connection>();
  readonly #online = new Set<string>();
  readonly #identifiers = new BrokerIdentifiers((id) => this.#online.has(id));
  readonly #filters = new BrokerFilters();
  readonly #sessions: BrokerSessions;
  #window: BrokerWindow | null = null;
  #broker: Aedes | null = null;
  #server: Server | null = null;
  #closing: Promise<void> | null = null;

  constructor(context: Context, options: BrokerSourceOptions) {
    this.#context = context;
    this.#options = options;
    this.#access = new BrokerAccess(options);
    this.#topics = new TopicHeaders(options.topics.map(parseTopicPattern));
    this.#rarely = new RareLog(context);
    const { queue, sessions, memory } = options.limits;
    this.#sessions = new BrokerSessions(
      { queue, sessions, memoryBytes: memory },
      this.#identifiers,
      this.#filters,
      {
        isOnline: (id) => this.#online.has(id),
        isAdmitted: (client) => this.#connections.get(client)?.isAdmitted ?? false,
      },
    );
  }

  async open(intake: Intake): Promise<void> {
    const { name, clock, log, health } = this.#context;
    const problem = brokerProblem(this.#options);
    if (problem !== null) {
      throw new HoldfastError("CONFIG_INVALID", `Cannot start source ${name}: ${problem}`);
    }
    this.#access.probe();
    this.#window = new BrokerWindow(intake, clock);
    this.#broker = await this.#startAedes();
    this.#server = await openListener({
      options: this.#options,
      handshakeTimeoutMs: connectTimeoutMs,
      rarely: this.#rarely,
      onSocket: (socket) => this.#connected(socket),
    });
    this.#connectedGauge(1);
    health.figures(() => ({
      clients: this.#online.size,
      ...this.#window?.figures,
      ...this.#sessions.figures,
    }));
    health.report("ok");
    log.info(`MQTT broker listens on ${this.#options.listen}`);
  }

  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #startAedes(): Promise<Aedes> {
    const { Aedes } = await import("aedes");
    const broker = new Aedes({
      persistence: this.#sessions,
      connectTimeout: connectTimeoutMs,
      drainTimeout: drainTimeoutMs,
      // The emitter's own queue would only warn; what is under way is bounded by BrokerWindow.
      concurrency: 0,
      // All that a client can have: bounded over all clients by BrokerIdentifiers.
      maxInflightInbound: 65_535,
      authenticate: (client, user, password, done) => {
        this.#authenticate(client, user, password, done);
      },
      authorizePublish: (client, packet, done) => this.#publish(client, packet, done),
      authorizeSubscribe: (client, subscription, done) => {
        // [MQTT-3.9.3]: null becomes the return code 0x80.
        done(null, this.#maySubscribe(client, subscription.topic) ? subscription : null);
      },
      // What a session has kept may be more than its client's user of now may receive.
      authorizeForward: (client, packet) =>
        this.#access.mayReceive(this.#userOf(client), packet.topic) ? packet : null,
      published: (_packet, client, done) => {
        const connection = client === null ? undefined : this.#connections.get(client);
        if (connection !== undefined) this.#window?.end(connection.publisher);
        done();
      },
    });
    await broker.listen();
    this.#watch(broker);
    return broker;
  }

  #maySubscribe(client: Client, filter: string): boolean {
    if (filter === sessionTopic || this.#connections.get(client)?.isAdmitted !== true) return false;
    if (!this.#access.maySubscribe(this.#userOf(client), filter)) {
      this.#rarely.warn("subscribe", `Refused to ${client.id}: a topic`);
      return false;
    }
    if (this.#filters.admits(client.id, filter)) return true;
    this.#rarely.warn(
      "filters",
      `Refused to ${client.id}: clients subscribe to ${filtersMax} topic filters, the most there may be`,
    );
    return false;
  }

  #watch(broker: Aedes): void {
    broker.on("unsubscribe", (filters, client) => this.#filters.end(client.id, filters));
    broker.on("client", (client) => this.#online.add(client.id));
    broker.on("clientDisconnect", (client) => {
      this.#online.delete(client.id);
      this.#sessions.left(client.id);
    });
    broker.on("connackSent", (packet, client) => {
      const connection = this.#connections.get(client);
      if (packet.returnCode !== 0 || connection === undefined) return;
      // The client starts anew [MQTT-3.2.2-3], its identifiers too.
      if (!packet.sessionPresent) this.#identifiers.forget(client.id);
      connection.isGreeted = true;
      connection.gate.resume();
    });
    broker.on("clientError", (client, error) =>
      this.#rarely.warn("client", `Client ${client.id} was cut off: ${messageOf(error)}`),
    );
    broker.on("connectionError", (_client, error) =>
      this.#rarely.warn("connection", `A connection was cut off: ${messageOf(error)}`),
    );
  }

  #connected(socket: Socket): void {
    const [broker, window] = [this.#broker, this.#window];
    if (broker === null || window === null || this.#closing !== null) {
      socket.destroy();
      return;
    }
    const publisher = window.publisher(() => gate.resume());
    const gate = new BrokerGate(socket, {
      packetBytesMax: this.#options.limits.maxPayload + topicBytesMax,
      // What follows CONNECT waits for CONNACK: aedes would handle it before it has authenticated anybody.
      mayPass: (passed) =>
        this.#closing === null &&
        (passed === 0 || connection.isGreeted) &&
        window.mayPass(publisher),
      onTooLarge: (bytes) =>
        this.#rarely.warn("large", `Cut a client off: it sent a packet of ${bytes} bytes`),
    });
    const connection: Connection = {
      gate,
      publisher,
      user: undefined,
      isAdmitted: false,
      isGreeted: false,
    };
    const client = broker.handle(gate.stream);
    this.#connections.set(client, connection);
    this.#open.add(connection);
    gate.stream.once("close", () => {
      window.leave(publisher);
      this.#open.delete(connection);
    });
  }

  #authenticate(
    client: Client,
    user: string | undefined,
    password: Buffer | undefined,
    done: (error: (Error & { returnCode: number }) | null, success: boolean | null) => void,
  ): void {
    const refuse = (why: string, returnCode: number): void => {
      this.#rarely.warn("authenticate", `Refused client ${client.id}: ${why}`);
      done(Object.assign(new Error(why), { returnCode }), false);
    };
    const connection = this.#connections.get(client);
    try {
      if (!this.#access.admits(user, password)) {
        refuse("wrong user name or password", badCredentials);
      } else if (connection !== undefined) {
        connection.user = user;
        connection.isAdmitted = true;
        done(null, true);
      }
    } catch (error) {
      refuse(messageOf(error), unavailable);
    }
  }

  #publish(client: Client | null, packet: PublishPacket, done: (error?: Error) => void): void {
    const connection = client === null ? undefined : this.#connections.get(client);
    const window = this.#window;
    if (client === null || connection?.isAdmitted !== true || window === null) {
      done(new Error("the client was not admitted"));
      return;
    }
    if (this.#closing !== null) {
      // A will of a client that we cut off is none. Other publishes get no answer, so that those before them
      // still get theirs: an error would cut the connection.
      if (client.closed) done(new Error("the broker stops"));
      return;
    }
    // [MQTT-3.3.5-2] leaves two ways to refuse; an acknowledgement would be a lie.
    const { topic } = packet;
    if (topic.startsWith("$SYS/") || !this.#access.mayPublish(connection.user, topic)) {
      done(new Error(`topic ${topic} is not allowed`));
      return;
    }
    const { publisher } = connection;
    window.begin(publisher);
    // A will has no identifier.
    if (packet.qos !== 2 || packet.messageId === undefined) {
      this.#take(window, publisher, packet, () => done());
      return;
    }
    const known = this.#identifiers.find(client.id, packet.messageId);
    if (known !== undefined) {
      // aedes answers a repetition by PUBREC and does not pass it on.
      known.whenSafe(() => {
        window.end(publisher);
        done();
      });
      return;
    }
    const identifier = this.#identifiers.add(client.id, packet.messageId);
    if (identifier === null) {
      done(new Error("too many QoS 2 messages are unfinished"));
      return;
    }
    identifier.whenSafe(() => done());
    this.#take(window, publisher, packet, () => identifier.becomeSafe());
  }

  #take(window: BrokerWindow, publisher: Publisher, packet: PublishPacket, goOn: () => void): void {
    const header = this.#topics.of(packet.topic);
    if (header === null) {
      goOn();
      return;
    }
    const isRepeated = packet.dup && packet.qos > 0;
    const message = {
      headers: isRepeated ? { ...header.headers, dup: "1" } : header.headers,
      ...(header.fields.length > 0 && { fields: header.fields }),
      // The parser gives bytes; aedes' type allows for text that a program publishes.
      payload: packet.payload as Buffer,
    };
    window.take(publisher, message, packet.qos > 0, goOn);
  }

  #userOf(client: Client): string | undefined {
    return this.#connections.get(client)?.user;
  }

  async #close(graceMs: number): Promise<void> {
    const { clock } = this.#context;
    this.#connectedGauge(0);
    const server = this.#server;
    const closed = new Promise<void>((resolve) => {
      if (server?.listening === true) server.close(() => resolve());
      else resolve();
    });
    await within(clock, graceMs, this.#window?.idle() ?? Promise.resolve());
    // The acknowledgements of the last commit are written in this turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const gates = [...this.#open].map(({ gate }) => gate.stream);
    const farewells = gates.map((stream) => new Promise<void>((done) => stream.end(() => done())));
    await within(clock, farewellMs, Promise.all(farewells));
    for (const stream of gates) stream.destroy();
    const broker = this.#broker;
    if (broker !== null) await new Promise<void>((resolve) => broker.close(() => resolve()));
    await closed;
  }

  #connectedGauge(value: 0 | 1): void {
    const { name, metrics } = this.#context;
    metrics.gauge("holdfast_source_connected", { source: name }).set(value);
  }
}

/** Resolves with `work`, or after `timeMs`. */
function within(clock: Context["clock"], timeMs: number, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.after(timeMs, resolve);
    void work.finally(() => {
      timer.cancel();
      resolve();
    });
  });
}

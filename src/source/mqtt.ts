/**
 * Messages of an MQTT broker.
 *
 *   connecting ──► connected ──► subscribed ──► … ──► ended ──► waiting (back-off) ──► connecting
 *
 * For ever: a broker that is away is no failure. What is promised about messages is in mqtt-receiver.ts, what is
 * said on the wire in mqtt-connection.ts; this file connects, subscribes, pauses and tells.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { Gauge } from "../core/metrics.ts";
import { formatDuration } from "../core/quantity.ts";
import { MqttConnection, packetBytesMax } from "./mqtt-connection.ts";
import type { End, Publish, Session } from "./mqtt-link.ts";
import { Outage } from "./mqtt-outage.ts";
import { connectionPlan, type MqttSourceOptions } from "./mqtt-options.ts";
import { ProtocolChoice } from "./mqtt-protocol.ts";
import { MqttReceiver } from "./mqtt-receiver.ts";
import { Subscriber } from "./mqtt-subscriber.ts";
import { AckWindow } from "./mqtt-window.ts";
import type { Intake, Source } from "./source.ts";
import { parseTopicPattern, TopicHeaders } from "./topic-pattern.ts";

/** A broker that is away: soon again at first, then once a minute, so that a fleet does not crowd it. */
const backoff = { baseMs: 1000, maxMs: 60_000 };
/** A connection that lasted as long was good: the next outage starts from the shortest delay. */
const healthyMs = 60_000;
/** Two clients with one ID throw each other out for ever; the fifth step, 16 s, keeps that from being a storm. */
const takenOverAttempt = 5;
/** What mosquitto sends to a 3.1.1 client unacknowledged; others are learnt (mqtt-window.ts). */
const olderWindow = 20;
const retainHandling = { accept: 0, "new-only": 1, ignore: 2 } as const;

export function createMqttSource(
  context: Context,
  options: MqttSourceOptions,
  { device }: { device: string },
): Source {
  return new MqttSource(context, options, options.clientId ?? `holdfast-${device}-${context.name}`);
}

class MqttSource implements Source {
  readonly #context: Context;
  readonly #options: MqttSourceOptions;
  readonly #clientId: string;
  readonly #protocols: ProtocolChoice;
  readonly #outage: Outage;
  readonly #connectedGauge: Gauge;
  readonly #subscriber: Subscriber;
  readonly #windows: Readonly<Record<4 | 5, AckWindow>>;
  #receiver: MqttReceiver | null = null;
  #intake: Intake | null = null;
  #connection: MqttConnection | null = null;
  #session: Session | null = null;
  #timer: Timer | null = null;
  #attempt = 0;
  #connects = 0;
  #connectedMs = 0;
  #isReading = true;
  /** What this connection's messages were complained of already. */
  readonly #told = new Set<"unknown topic" | "oversized" | "reused">();
  /** Messages that were too large, since the start. */
  #oversized = 0;
  #closing: Promise<void> | null = null;

  constructor(context: Context, options: MqttSourceOptions, clientId: string) {
    this.#context = context;
    this.#options = options;
    this.#clientId = clientId;
    this.#protocols = new ProtocolChoice(options.protocol);
    this.#outage = new Outage(context);
    this.#connectedGauge = context.metrics.gauge("holdfast_source_connected", {
      source: context.name,
    });
    const subscriptions = options.topics.map((topic) => ({
      filter: parseTopicPattern(topic).filter,
      qos: options.qos,
      retainHandling: retainHandling[options.retained],
    }));
    this.#subscriber = new Subscriber(context.clock, subscriptions);
    const half = Math.ceil(options.receiveMaximum / 2);
    this.#windows = { 5: new AckWindow(half, half), 4: new AckWindow(olderWindow, half) };
  }

  async open(intake: Intake): Promise<void> {
    const { clock, health, metrics, name } = this.#context;
    // A secret or certificate that cannot be read is for a person to mend, now and not at the first attempt.
    const { host, port } = connectionPlan(this.#options, this.#clientId, 5);
    this.#connectedGauge.set(0);
    health.report("degraded", `Connects to broker ${host}:${port} for the first time`);
    health.figures(() => this.#figures(`${host}:${port}`));
    if (!this.#options.tls.verify) {
      this.#context.log.warn("Does not verify the broker's certificate: tls.verify is false");
    }
    this.#intake = intake;
    const receiver = new MqttReceiver({
      intake,
      headers: new TopicHeaders(this.#options.topics.map(parseTopicPattern)),
      skipped: metrics.counter("holdfast_source_events_total", { source: name, status: "skipped" }),
      nowMs: () => clock.monotonicMs(),
      onSkipped: (packet) => this.#tellSkipped(packet),
      onReused: (packetId) => this.#tellReused(packetId),
      onSettled: () => this.#steer(),
    });
    await receiver.open();
    this.#receiver = receiver;
    intake.onRoom(() => this.#steer());
    if (this.#closing === null) this.#connect();
  }

  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    this.#timer?.cancel();
    this.#subscriber.stop();
    const connection = this.#connection;
    if (connection !== null && this.#session !== null) {
      connection.pause();
      const enough = new AbortController();
      const grace = this.#context.clock.sleep(graceMs, enough.signal).catch(() => undefined);
      await Promise.race([this.#receiver?.settled(), grace]);
      enough.abort();
    }
    await connection?.disconnect();
    this.#receiver?.detach();
    this.#connectedGauge.set(0);
  }

  #connect(): void {
    const receiver = this.#receiver;
    if (receiver === null || this.#closing !== null) return;
    const { clock } = this.#context;
    const protocol = this.#protocols.next(clock.monotonicMs());
    let connection: MqttConnection;
    try {
      const plan = connectionPlan(this.#options, this.#clientId, protocol);
      connection = new MqttConnection(plan, clock, {
        connected: (session) => this.#connected(connection, session),
        subscribed: (granted) => this.#subscribed(connection, granted),
        publish: (packet) => receiver.publish(packet),
        release: (packetId) => receiver.release(packetId),
        chunkEnded: () => {
          receiver.chunkEnded();
          this.#steer();
        },
        ended: (end) => this.#ended(connection, end),
      });
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      this.#retry(error);
      return;
    }
    this.#connection = connection;
    connection.open();
  }

  #connected(connection: MqttConnection, session: Session): void {
    const { clock, log } = this.#context;
    const { protocol } = connection.plan;
    this.#session = session;
    this.#connects++;
    this.#connectedMs = clock.monotonicMs();
    this.#isReading = true;
    this.#told.clear();
    const asked = this.#options.sessionExpiry;
    if (session.expiryMs !== null && session.expiryMs < asked) {
      const [granted, wanted] = [formatDuration(session.expiryMs), formatDuration(asked)];
      log.warn(
        `Broker ${connection.address} keeps the session for ${granted}: ${wanted} was asked`,
      );
    }
    const { retained } = this.#options;
    this.#receiver
      ?.attach({
        connection,
        hasSession: session.isPresent,
        // 3.1.1 has no word for it and sends them at each SUBSCRIBE: with a session they are not new.
        skipsRetained:
          retained === "ignore" || (retained === "new-only" && protocol === 4 && session.isPresent),
        window: this.#windows[protocol],
        receiveMaximum: this.#options.receiveMaximum,
      })
      .then((isReady) => {
        if (!isReady || this.#closing !== null) return;
        this.#steer();
        this.#subscriber.start(connection);
      })
      .catch((cause: unknown) => {
        connection.destroy();
        const message = `Cannot forget the packet identifiers of the session before: ${messageOf(cause)}`;
        const error = new HoldfastError("JOURNAL_DISK", message, { cause });
        this.#ended(connection, { error, needsOlderProtocol: "no", isTakenOver: false });
      });
  }

  /** SUBACK. */
  #subscribed(connection: MqttConnection, granted: readonly number[]): void {
    const problem = this.#subscriber.granted(connection, granted);
    this.#connectedGauge.set(1);
    if (problem !== null) {
      this.#outage.limited(new HoldfastError("SOURCE_REFUSED", problem));
      return;
    }
    this.#outage.over(`Subscribed at broker ${connection.address}`, {
      protocol: connection.plan.protocol === 5 ? "5" : "3.1.1",
      sessionPresent: this.#session?.isPresent ?? false,
    });
  }

  #ended(connection: MqttConnection, end: End): void {
    if (this.#connection !== connection) return;
    const { clock } = this.#context;
    const nowMs = clock.monotonicMs();
    const wasConnected = this.#session !== null;
    this.#connection = null;
    this.#session = null;
    this.#receiver?.detach();
    this.#connectedGauge.set(0);
    this.#subscriber.stop();
    if (this.#closing !== null) return;
    if (wasConnected && nowMs - this.#connectedMs >= healthyMs) this.#attempt = 0;
    if (end.isTakenOver) this.#attempt = Math.max(this.#attempt, takenOverAttempt - 1);
    if (this.#protocols.ended(end, connection.plan.protocol, nowMs)) {
      this.#timer = clock.after(0, () => this.#connect());
      return;
    }
    this.#retry(end.error);
  }

  #retry(error: HoldfastError): void {
    const { clock, random } = this.#context;
    this.#attempt++;
    const delayMs = backoffDelayMs(backoff, this.#attempt, random());
    this.#outage.began(error, delayMs);
    this.#timer = clock.after(delayMs, () => this.#connect());
  }

  /** Reads from the socket while there is room for what it brings. */
  #steer(): void {
    if (this.#session === null || this.#closing !== null) return;
    const mayRead = (this.#receiver?.mayRead ?? false) && (this.#intake?.hasRoom() ?? false);
    if (mayRead === this.#isReading) return;
    this.#isReading = mayRead;
    if (mayRead) this.#connection?.resume();
    else this.#connection?.pause();
  }

  #tellReused(packetId: number): void {
    if (this.#told.has("reused")) return;
    this.#told.add("reused");
    this.#context.log.warn(
      `Broker uses packet identifier ${packetId} for two messages at once: none is lost, some may come twice; mosquitto does so before 2.0.12 when more than 65,535 messages wait`,
    );
  }

  /** Once for each connection; the counter has them all. */
  #tellSkipped({ topic, oversizeBytes }: Publish): void {
    const isOversized = oversizeBytes > 0;
    if (isOversized) this.#oversized++;
    const what = isOversized ? "oversized" : "unknown topic";
    if (this.#told.has(what)) return;
    this.#told.add(what);
    const why = isOversized
      ? `it has ${oversizeBytes} bytes, at most ${packetBytesMax} are taken in`
      : "its topic is not configured, but the session at the broker has older subscriptions; another clientId begins a new session";
    this.#context.log.warn(`Skipped a message: ${why}`, { topic: topic.slice(0, 200) });
  }

  #figures(broker: string): Readonly<Record<string, string | number | boolean | null>> {
    const { clock } = this.#context;
    const isConnected = this.#session !== null;
    const protocol = this.#connection?.plan.protocol;
    return {
      broker,
      clientId: this.#clientId,
      protocol: protocol === undefined ? null : protocol === 5 ? "5" : "3.1.1",
      connectedSeconds: isConnected
        ? Math.floor((clock.monotonicMs() - this.#connectedMs) / 1000)
        : null,
      sessionPresent: this.#session?.isPresent ?? null,
      reconnects: Math.max(0, this.#connects - 1),
      outstanding: this.#receiver?.outstanding ?? 0,
      unsettledBytes: this.#receiver?.heldBytes ?? 0,
      oversized: this.#oversized,
      paused: isConnected && !this.#isReading,
    };
  }
}

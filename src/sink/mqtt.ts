/**
 * Events as MQTT publishes. The door of MQTT.js, which is imported when the sink opens: about 10 MB that a board
 * without this sink does not spend.
 *
 * At least once: what was acknowledged and not yet noted is sent again after a crash, under the same name, which
 * MQTT 5 user properties carry (device, epoch, stream, seq). At QoS 0 a broken connection may lose messages.
 *
 * The cursor is the truth, so MQTT.js must not do our work a second time: each opening is a new client with a
 * clean session, no reconnecting, no queueing, and what is published goes past its store (mqtt-publisher.ts).
 */
import type * as mqttPackage from "mqtt";
import type { IClientOptions, MqttClient } from "mqtt";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import { addressOf, credentialsOf, type FarAddress } from "../core/far-address.ts";
import {
  boolean,
  duration,
  group,
  integer,
  oneOf,
  optional,
  secret,
  text,
  url,
  type Infer,
} from "../core/field.ts";
import { compileTemplate, templatePattern, type Template } from "../core/template.ts";
import { readTlsClient, tlsClientOptions } from "../core/tls.ts";
import {
  connectionError,
  publishError,
  topicProblem,
  unsupportedVersions,
} from "./mqtt-answers.ts";
import { statusMessage } from "./mqtt-message.ts";
import { PublishPacket, type PublishTerms } from "./mqtt-publish.ts";
import { MqttPublisher } from "./mqtt-publisher.ts";
import { PublishWindow, type Outcome } from "./publish-window.ts";
import { sinkOptions, type Batch, type Position, type SendResult, type Sink } from "./sink.ts";

export const mqttSinkOptions = group(
  {
    ...sinkOptions,
    url: url({
      doc: "The broker",
      protocols: ["mqtt", "mqtts"],
      example: "mqtts://up.example:8883",
    }),
    topic: text({
      doc: "The topic of each event: text with {device}, {stream}, {epoch}, {seq}, {key}, {topic} (the one it came by) or {header:NAME}; an event that lacks one of them is a dead letter",
      default: "{device}/{stream}",
      pattern: templatePattern(undefined, "+#"),
      allowed:
        "a topic without + and #, with {device}, {stream}, {epoch}, {seq}, {key}, {topic} or {header:NAME}",
    }),
    qos: oneOf([0, 1], {
      doc: "1: each event at least once; 0: what is under way when a connection breaks may be lost",
      default: 1,
    }),
    retain: boolean({ doc: "Whether the broker keeps the last event of a topic", default: false }),
    username: optional(text({ doc: "The user name", example: "edge" })),
    password: optional(secret({ doc: "The password", example: { credential: "up-password" } })),
    statusTopic: optional(
      text({
        doc: "A topic where the broker keeps whether this device is there, retained: `online` on connecting, `offline` on leaving and, as the will, when the connection is lost; text with {device}",
        pattern: templatePattern(["device"], "+#"),
        allowed: "a topic without + and #, with {device}",
        example: "status/{device}",
      }),
    ),
    clientId: optional(
      text({
        doc: "The client ID; left out: holdfast-DEVICE-NAME-sink",
        example: "holdfast-greenhouse-1-bus",
      }),
    ),
    protocol: oneOf(["auto", 5, "3.1.1"], {
      doc: "The version of MQTT; auto: 5, and 3.1.1 where the broker does not know it (no user properties then)",
      default: "auto",
    }),
    window: integer({
      doc: "How many publishes may be unacknowledged; never more than the broker allows",
      default: 256,
      min: 1,
      max: 65_535,
    }),
    ackTimeout: duration({
      doc: "The longest to wait for an answer of the broker before the connection is given up",
      default: "30s",
      min: "1s",
    }),
    tls: tlsClientOptions,
  },
  { doc: "Another MQTT broker; at least once" },
);
export type MqttSinkSettings = Infer<typeof mqttSinkOptions>;

export function createMqttSink(
  context: Context,
  options: MqttSinkSettings,
  { device }: { readonly device: string },
): Sink {
  return new MqttSink(context, options, device);
}

type Version = 4 | 5;
type Mqtt = Pick<typeof mqttPackage, "connect" | "ReasonCodes">;

/** MQTT 5, 3.1.2.10: the broker gives up a silent client after one and a half times this. */
const keepAliveSeconds = 30;
/** How long a broker may take to close after DISCONNECT, ms: one round trip on a bad link. */
const farewellMs = 1000;

class MqttSink implements Sink {
  readonly #context: Context;
  readonly #options: MqttSinkSettings;
  readonly #device: string;
  readonly #topic: Template;
  readonly #far: string;
  #client: MqttClient | null = null;
  #publisher: MqttPublisher | null = null;
  #words: Readonly<Record<number, string>> = {};
  #broken: HoldfastError | null = null;
  #window: PublishWindow | null = null;
  /** Of what the present batch published. */
  #wireBytes = 0;
  /** It has answered in MQTT 5 before: a connection that breaks early is no reason to speak 3.1.1. */
  #spokeFive = false;
  /** The broker does not take our status; mosquitto 2.0.11 hangs up as well, so that it is not asked again. */
  #isStatusDenied = false;
  #lost: ((error: HoldfastError) => void) | null = null;

  constructor(context: Context, options: MqttSinkSettings, device: string) {
    this.#context = context;
    this.#options = options;
    this.#device = device;
    this.#topic = compileTemplate(options.topic);
    const { protocol, host } = new URL(options.url);
    // Without user and password, which a URL may hold.
    this.#far = `${protocol}//${host}`;
  }

  async open(_positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    const mqtt: Mqtt = await import("mqtt");
    const { protocol } = this.#options;
    const first: Version = protocol === "3.1.1" ? 4 : 5;
    let attempt = await this.#connect(mqtt, first, signal);
    if (attempt instanceof Refused && attempt.knowsOlder && protocol === "auto") {
      attempt = await this.#connect(mqtt, 4, signal);
    }
    if (attempt instanceof Refused) throw attempt.error;
    this.#client = attempt;
    this.#publisher = new MqttPublisher(attempt);
    this.#words = mqtt.ReasonCodes;
    this.#broken = null;
    this.#watch(attempt);
    this.#checkAbilities(attempt);
    await this.#tellStatus(attempt, "online");
    if (attempt.options.protocolVersion === 5) this.#spokeFive = true;
  }

  onLost(listener: (error: HoldfastError) => void): void {
    this.#lost = listener;
  }

  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    const [client, publisher] = [this.#client, this.#publisher];
    if (client === null || publisher === null) throw new Error("send() before open()");
    if (this.#broken !== null) return { settled: 0, refused: [], failure: this.#broken };
    const { qos, retain, window: most, ackTimeout } = this.#options;
    const version = client.options.protocolVersion === 5 ? 5 : 4;
    const terms: PublishTerms = { version, qos, retain, device: this.#device };
    // [MQTT-4.9.0-2]: what a batch that was stopped left unacknowledged counts.
    const allowed = client.serverProperties?.receiveMaximum ?? 65_535;
    const window = new PublishWindow({
      count: batch.events.length,
      limit: Math.max(1, Math.min(most, allowed) - publisher.outstanding),
      clock: this.#context.clock,
      timeoutMs: ackTimeout,
      publish: (index, rest) => this.#publish(publisher, terms, batch, index, rest),
      waits: () => publisher.urge(),
    });
    this.#window = window;
    this.#wireBytes = 0;
    const abort = (): void => window.fail(this.#error("the delivery was stopped", undefined));
    signal.addEventListener("abort", abort, { once: true });
    try {
      return { ...(await window.run()), wireBytes: this.#wireBytes };
    } finally {
      signal.removeEventListener("abort", abort);
      this.#window = null;
    }
  }

  async close(): Promise<void> {
    const [client, publisher] = [this.#client, this.#publisher];
    this.#client = null;
    this.#publisher = null;
    if (client === null) return;
    const isIdle = publisher?.outstanding === 0;
    publisher?.close();
    const closed = Promise.withResolvers<void>();
    client.once("close", () => closed.resolve());
    if (this.#broken !== null || !client.connected || !isIdle) {
      // What is unacknowledged will be sent again: nothing to wait for.
      client.end(true, () => closed.resolve());
      await closed.promise;
      return;
    }
    // The window is empty. DISCONNECT goes out when this is acknowledged, or after the farewell.
    // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
    this.#tellStatus(client, "offline");
    const farewell = this.#context.clock.after(farewellMs, () => client.stream.destroy());
    client.end(false, () => closed.resolve());
    await closed.promise;
    farewell.cancel();
  }

  /**
   * The birth message and the farewell; where the connection breaks before, the will says the latter. Resolves when
   * the broker has answered.
   */
  #tellStatus(client: MqttClient, status: "online" | "offline"): Promise<void> {
    const topic = this.#statusTopic();
    if (topic === undefined || this.#isStatusDenied) return Promise.resolve();
    const { clock, log, name } = this.#context;
    const message = statusMessage(this.#device, status, clock.wallMs());
    const { qos, ackTimeout } = this.#options;
    const told = Promise.withResolvers<void>();
    const late = clock.after(ackTimeout, told.resolve);
    client.once("close", told.resolve);
    client.publish(topic, message, { qos, retain: true }, (error) => {
      // Without a reason code it is the connection's end.
      if (error && typeof codeOf(error) === "number") this.#isStatusDenied = true;
      if (error && this.#isStatusDenied)
        log.warn(`Sink ${name} cannot tell its status on ${topic}: ${messageOf(error)}`);
      told.resolve();
    });
    return told.promise.finally(() => late.cancel());
  }

  #statusTopic(): string | undefined {
    return this.#options.statusTopic?.replaceAll("{device}", this.#device);
  }

  #publish(
    publisher: MqttPublisher,
    terms: PublishTerms,
    batch: Batch,
    index: number,
    rest: (outcome: Outcome) => void,
  ): void {
    const event = batch.events[index] as StoredEvent;
    const topic = this.#topic.textFor(event, this.#device);
    if (topic instanceof HoldfastError) return rest(topic);
    const problem = topicProblem(topic);
    if (problem !== null) return rest(new HoldfastError("SINK_REFUSED", problem));
    const packet = new PublishPacket(event, topic, terms, batch.backfill === true);
    const most = this.#client?.serverProperties?.maximumPacketSize;
    if (most !== undefined && packet.bytes > most) {
      const why = `Message to ${topic} has ${packet.bytes} bytes: the broker takes ${most} [MQTT-3.2.2-15]`;
      return rest(new HoldfastError("SINK_REFUSED", why));
    }
    this.#wireBytes += packet.bytes;
    publisher.publish(packet, terms.qos, (code) =>
      rest(
        code === null ? null : publishError(topic, this.#words[code] || "no reason given", code),
      ),
    );
    return undefined;
  }

  /** Resolves when the broker has answered CONNECT or hung up. */
  #connect(mqtt: Mqtt, version: Version, signal: AbortSignal): Promise<MqttClient | Refused> {
    if (signal.aborted)
      return Promise.resolve(new Refused(this.#error("stopped", undefined), false));
    const client = mqtt.connect(this.#clientOptions(version));
    const answer = Promise.withResolvers<MqttClient | Refused>();
    const refuse = (reason: string, code: unknown, knowsOlder: boolean, cause?: unknown): void =>
      answer.resolve(new Refused(this.#error(reason, code, cause), knowsOlder));
    const maybeOld = version === 5 && !this.#spokeFive;
    const connected = (): void => answer.resolve(client);
    const failed = (error: Error): void => {
      const code = codeOf(error);
      const isOld = version === 5 && unsupportedVersions.includes(code);
      refuse(reasonOf(error), code, isOld || (maybeOld && code === "ECONNRESET"), error);
    };
    const closed = (): void => refuse("the broker hung up on CONNECT", undefined, maybeOld);
    const stopped = (): void => refuse("stopped", undefined, false);
    client.on("connect", connected).on("error", failed).on("close", closed);
    signal.addEventListener("abort", stopped, { once: true });
    return answer.promise.then((outcome) => {
      client.off("connect", connected).off("error", failed).off("close", closed);
      signal.removeEventListener("abort", stopped);
      if (outcome instanceof Refused) client.end(true);
      return outcome;
    });
  }

  /** Notes why the connection ends, and tells whoever is concerned. */
  #watch(client: MqttClient): void {
    let reason = "the connection was lost";
    let code: unknown;
    client.on("error", (error) => {
      reason = reasonOf(error);
      code = codeOf(error);
    });
    client.on("disconnect", (packet) => {
      code = packet.reasonCode;
      const words = this.#words[packet.reasonCode ?? -1];
      reason = `the broker disconnected us: ${words ?? "no reason given"}`;
    });
    client.on("close", () => {
      if (this.#client !== client || this.#broken !== null) return;
      this.#broken = this.#error(reason, code);
      if (this.#window !== null) this.#window.fail(this.#broken);
      else this.#lost?.(this.#broken);
    });
  }

  /** [MQTT-3.2.2-11], [MQTT-3.2.2-14]: what the broker said that it cannot do is not asked of it. */
  #checkAbilities(client: MqttClient): void {
    const { maximumQoS, retainAvailable } = client.serverProperties ?? {};
    if (this.#options.qos > (maximumQoS ?? 2)) {
      throw new HoldfastError(
        "SINK_DENIED",
        `Cannot deliver to ${this.#far}: the broker takes QoS 0 alone`,
      );
    }
    if (this.#options.retain && retainAvailable === false) {
      throw new HoldfastError(
        "SINK_DENIED",
        `Cannot deliver to ${this.#far}: the broker retains nothing`,
      );
    }
  }

  #clientOptions(version: Version): IClientOptions {
    const { url, username, password, clientId, ackTimeout, qos, tls } = this.#options;
    const where = new URL(url);
    const own = credentialsOf(where);
    // Its schemes are known there.
    const { host, port } = addressOf(where) as FarAddress;
    const isTls = where.protocol === "mqtts:";
    const user = username ?? own.username;
    const statusTopic = this.#statusTopic();
    const payload = Buffer.from(statusMessage(this.#device, "offline"));
    const word = password?.reveal() ?? own.password;
    return {
      protocol: isTls ? "mqtts" : "mqtt",
      hostname: host,
      port,
      ...(isTls && readTlsClient(tls)),
      protocolVersion: version,
      // Not a source's: one of the same name, at the same broker, would be thrown out by it, and throw it out.
      clientId: clientId ?? `holdfast-${this.#device}-${this.#context.name}-sink`,
      ...(user !== undefined && { username: user }),
      ...(word !== undefined && { password: word }),
      ...(statusTopic !== undefined && {
        will: { topic: statusTopic, payload, qos, retain: true },
      }),
      keepalive: keepAliveSeconds,
      connectTimeout: ackTimeout,
      clean: true,
      reconnectPeriod: 0,
      queueQoSZero: false,
      resubscribe: false,
    };
  }

  #error(reason: string, code: unknown, cause?: unknown): HoldfastError {
    return connectionError(this.#far, reason, code, cause);
  }
}

/** A connection that did not come about. */
class Refused {
  readonly error: HoldfastError;
  /** The broker knows an older version alone, or behaves so. */
  readonly knowsOlder: boolean;

  constructor(error: HoldfastError, knowsOlder: boolean) {
    this.error = error;
    this.knowsOlder = knowsOlder;
  }
}

/** MQTT.js puts a reason code where Node puts an errno name. */
function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}

/** A name with several addresses fails with an error for each and no message of its own. */
function reasonOf(error: Error): string {
  const all: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
  return all.map(messageOf).join(", ");
}

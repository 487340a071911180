/**
 * One network connection to a broker: CONNECT to the end of the socket. The door of mqtt-packet.
 *
 * Why not MQTT.js, whose parser this is: it sends the PUBACK by itself when `handleMessage` returns and parses
 * nothing further until then, so holding it for the journal's commit stops the stream (380 messages a second
 * with a 2 ms commit); and it hands a QoS 2 message over at PUBREL, out of its memory, where a crash after PUBREC
 * loses it. Both can be bent only by overriding `_sendPacket` and the private handlers. What a receiver needs of
 * the protocol fits in this file, at two thirds of the CPU.
 *
 *   open ── socket ── CONNECT ──► CONNACK ──► listener.connected ──► packets … ──► listener.ended, once
 *
 * It keeps nothing that outlives it: acknowledgements that were not flushed die with it, as they must, since the
 * identifiers mean nothing on the next connection. Bounds: one packet of at most `packetBytesMax` and one chunk
 * of the socket are held; acknowledgements at most as many as came in since the last flush.
 */
import { generate, parser, type IPublishPacket, type Packet, type Parser } from "mqtt-packet";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Clock, Timer } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { PacketCutter, type OversizedPublish } from "./mqtt-cutter.ts";
import { KeepAlive } from "./mqtt-keep-alive.ts";
import type { ConnectionListener, ConnectionPlan, End, Subscription } from "./mqtt-link.ts";
import {
  modernCode,
  refusal,
  sessionTakenOver,
  socketProblem,
  unsupportedProtocol,
} from "./mqtt-reasons.ts";

export type Acknowledgement = "puback" | "pubrec" | "pubcomp";

/**
 * Largest packet, bytes: a payload of 1 MiB, the most that an event may have, a topic of at most 64 KiB, and as
 * much again for properties. MQTT 5 brokers are told; what is larger all the same is cut out (mqtt-cutter.ts).
 */
export const packetBytesMax = 1024 * 1024 + 128 * 1024;

/** First byte of each acknowledgement: packet type and reserved flags (MQTT 5, 2.1.2 and 2.1.3). */
const firstBytes = { puback: 0x40, pubrec: 0x50, pubcomp: 0x70 } as const;
/** [MQTT-3.7.2-1] "Packet Identifier not found". */
const unknownIdentifier = 0x92;
/** Long enough for a DISCONNECT to leave over a slow link; after it the socket is cut. */
const farewellMs = 500;

export class MqttConnection {
  readonly plan: ConnectionPlan;
  readonly #clock: Clock;
  readonly #listener: ConnectionListener;
  readonly #parser: Parser;
  readonly #cutter: PacketCutter;
  readonly #keepAlive: KeepAlive;
  #socket: Socket | null = null;
  #timer: Timer | null = null;
  #phase: "new" | "connecting" | "connected" | "ended" = "new";
  #isCalling = false;
  /** What to call at each PINGRESP that is still to come; at most one of the receiver's, and the keep-alive's. */
  #pings: ((() => void) | null)[] = [];
  /** Bytes of the acknowledgements that the next flush sends, in order. */
  #acks: number[] = [];

  constructor(plan: ConnectionPlan, clock: Clock, listener: ConnectionListener) {
    this.plan = plan;
    this.#clock = clock;
    this.#listener = listener;
    this.#parser = parser({ protocolVersion: plan.protocol });
    this.#parser.on("packet", (packet) => this.#handle(packet));
    this.#parser.on("error", (cause: unknown) => this.#malformed(cause));
    this.#cutter = new PacketCutter(packetBytesMax, {
      pass: (bytes) => this.#parser.parse(bytes),
      oversized: (packet) => this.#oversized(packet),
      refused: () => this.#refuse(0x95, `it sent a packet of more than ${packetBytesMax} bytes`),
    });
    this.#keepAlive = new KeepAlive(clock, {
      ping: () => this.#ping(null),
      dead: () => this.#fail("no answer to keep-alive"),
    });
  }

  get address(): string {
    return `${this.plan.host}:${this.plan.port}`;
  }

  open(): void {
    const { host, port, tls } = this.plan;
    this.#phase = "connecting";
    const socket =
      tls === null
        ? connectTcp({ host, port })
        : // RFC 6066: an IP address is no server name.
          connectTls({ host, port, ...tls, ...(isIP(host) === 0 && { servername: host }) });
    this.#socket = socket;
    socket.setNoDelay(true);
    // Sees a dead peer while the socket is paused and its PINGRESP is not read.
    socket.setKeepAlive(true, this.plan.keepAliveMs);
    socket.on("data", (chunk: Buffer) => this.#received(chunk));
    socket.on("error", (cause) => this.#fail(socketProblem(cause, this.#clock.wallMs()), cause));
    socket.on("close", () => this.#closed());
    socket.once(tls === null ? "connect" : "secureConnect", () => this.#greet());
    this.#timer = this.#clock.after(this.plan.connectTimeoutMs, () => this.#fail("timed out"));
  }

  subscribe(subscriptions: readonly Subscription[]): void {
    this.#send({
      cmd: "subscribe",
      // The only packet of ours that bears an identifier.
      messageId: 1,
      subscriptions: subscriptions.map(({ filter, qos, retainHandling }) => ({
        topic: filter,
        qos,
        ...(this.plan.protocol === 5 && { rh: retainHandling, rap: false, nl: false }),
      })),
    });
  }

  /** Leaves with the next `flush`. Success is two bytes in 3.1.1 and in 5 ([MQTT-3.4.2.1] lets it be left out). */
  acknowledge(kind: Acknowledgement, packetId: number): void {
    this.#acks.push(firstBytes[kind], 2, packetId >> 8, packetId & 0xff);
  }

  /** PUBCOMP for an identifier that we do not know. */
  completeUnknown(packetId: number): void {
    if (this.plan.protocol === 4) this.acknowledge("pubcomp", packetId);
    else this.#acks.push(firstBytes.pubcomp, 3, packetId >> 8, packetId & 0xff, unknownIdentifier);
  }

  /** Sends all acknowledgements in one write. */
  flush(): void {
    if (this.#acks.length === 0 || this.#phase !== "connected") return;
    this.#socket?.write(Buffer.from(this.#acks));
    this.#acks = [];
    this.#keepAlive.sent();
  }

  /** `answered` when the broker has dealt with all that was sent before; never if the connection ends first. */
  ping(answered: () => void): void {
    if (this.#phase === "connected") this.#ping(answered);
  }

  #ping(answered: (() => void) | null): void {
    this.#pings.push(answered);
    this.#send({ cmd: "pingreq" });
  }

  /** What was read from the socket already is still handed over: the rest of one chunk. */
  pause(): void {
    this.#socket?.pause();
    this.#keepAlive.deafen();
  }

  resume(): void {
    this.#keepAlive.listen();
    this.#socket?.resume();
  }

  /** Says goodbye (the session stays as it was agreed) and ends. Resolves when the socket is closed. */
  async disconnect(): Promise<void> {
    const socket = this.#socket;
    if (socket === null || this.#phase === "ended") return;
    if (this.#phase === "connected") this.#send({ cmd: "disconnect" });
    this.#finish();
    await new Promise<void>((resolve) => {
      const timer = this.#clock.after(farewellMs, () => socket.destroy());
      socket.once("close", () => {
        timer.cancel();
        resolve();
      });
      socket.end();
      // A paused socket does not see the broker's FIN.
      socket.resume();
    });
  }

  /** Cuts the socket: the broker sees a broken connection and keeps the session. */
  destroy(): void {
    this.#finish();
    this.#socket?.destroy();
  }

  #greet(): void {
    const { protocol, clientId, username, password, keepAliveMs, sessionExpiryMs } = this.plan;
    this.#send({
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: protocol,
      clientId,
      clean: false,
      keepalive: Math.ceil(keepAliveMs / 1000),
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password: Buffer.from(password) }),
      ...(protocol === 5 && {
        properties: {
          // 0xFFFFFFFF would mean for ever (3.1.2.11.2).
          sessionExpiryInterval: Math.min(Math.ceil(sessionExpiryMs / 1000), 0xfffffffe),
          receiveMaximum: this.plan.receiveMaximum,
          maximumPacketSize: packetBytesMax,
        },
      }),
    });
  }

  #received(chunk: Buffer): void {
    if (this.#phase === "ended") return;
    this.#keepAlive.heard();
    try {
      this.#cutter.cut(chunk);
    } catch (cause) {
      // Out of our own code: a mistake of ours. Out of the parser: a packet that it reads beyond its end.
      if (this.#isCalling) throw cause;
      this.#malformed(cause);
      return;
    }
    if (this.#phase === "connected") this.#listener.chunkEnded();
  }

  #handle(packet: Packet): void {
    if (this.#phase === "ended") return;
    if (this.#phase === "connecting" && packet.cmd !== "connack") {
      this.#malformed(new Error(`${packet.cmd} came before CONNACK`));
      return;
    }
    this.#isCalling = true;
    if (packet.cmd === "publish") this.#published(packet);
    else this.#handleOther(packet);
    this.#isCalling = false;
  }

  #handleOther(packet: Packet): void {
    switch (packet.cmd) {
      case "connack":
        return this.#greeted(packet);
      case "suback":
        return this.#listener.subscribed(packet.granted as number[]);
      case "pubrel":
        return this.#listener.release(packet.messageId ?? 0);
      case "pingresp":
        return this.#pings.shift()?.();
      case "disconnect": {
        const code = packet.reasonCode ?? 0x80;
        const words = packet.properties?.reasonString;
        const error = refusal(`Broker ${this.address} ended the connection`, code, words);
        return this.#end(error, "no", code === sessionTakenOver);
      }
      default:
        return this.#malformed(new Error(`${packet.cmd} is nothing that a broker sends here`));
    }
  }

  #published(packet: IPublishPacket): void {
    const packetId = packet.qos === 0 ? 0 : (packet.messageId ?? 0);
    // [MQTT-2.2.1-3], [MQTT-3.3.2-1]; no topic alias is allowed, since none was offered ([MQTT-3.1.2-27]).
    if ((packet.qos > 0 && packetId === 0) || packet.topic === "") {
      this.#malformed(new Error("a PUBLISH has no identifier or no topic"));
      return;
    }
    this.#listener.publish({
      topic: packet.topic,
      payload: packet.payload as Buffer,
      qos: packet.qos,
      dup: packet.dup,
      retain: packet.retain,
      packetId,
      oversizeBytes: 0,
    });
  }

  #oversized(packet: OversizedPublish): void {
    if (this.#phase !== "connected") return;
    const { qos } = packet;
    if (qos === 3) return this.#malformed(new Error("a PUBLISH has QoS 3"));
    const payload = Buffer.alloc(0);
    this.#isCalling = true;
    this.#listener.publish({
      ...packet,
      qos: qos as 0 | 1 | 2,
      payload,
      oversizeBytes: packet.bytes,
    });
    this.#isCalling = false;
  }

  #greeted(packet: Extract<Packet, { cmd: "connack" }>): void {
    const code = modernCode(packet.reasonCode ?? packet.returnCode ?? 0x80);
    if (code !== 0) {
      const words = packet.properties?.reasonString;
      const error = refusal(`Broker ${this.address} refused the connection`, code, words);
      this.#end(error, code === unsupportedProtocol ? "yes" : "no", false);
      return;
    }
    if (this.#phase === "connected") return this.#malformed(new Error("a second CONNACK"));
    this.#phase = "connected";
    this.#timer?.cancel();
    const { serverKeepAlive, sessionExpiryInterval } = packet.properties ?? {};
    // [MQTT-3.2.2-21]: the server's keep-alive is the one to use; 0 turns ours off too.
    const keepAliveMs =
      serverKeepAlive === undefined ? this.plan.keepAliveMs : serverKeepAlive * 1000;
    this.#keepAlive.start(keepAliveMs);
    this.#listener.connected({
      isPresent: packet.sessionPresent,
      expiryMs: sessionExpiryInterval === undefined ? null : sessionExpiryInterval * 1000,
    });
  }

  #send(packet: Packet): void {
    const socket = this.#socket;
    if (socket === null || this.#phase === "ended") return;
    socket.write(generate(packet, { protocolVersion: this.plan.protocol }));
    this.#keepAlive.sent();
  }

  #malformed(cause: unknown): void {
    // An old broker's answer to an MQTT 5 CONNECT can look like anything.
    const isGreeting = this.#phase === "connecting" && this.plan.protocol === 5;
    if (isGreeting) this.#fail(`its answer is not MQTT 5: ${messageOf(cause)}`, cause);
    else this.#refuse(0x81, `it sent a malformed packet: ${messageOf(cause)}`, cause);
  }

  /** The broker broke the protocol: MQTT 5 has us say so (4.13.1). */
  #refuse(code: number, why: string, cause?: unknown): void {
    if (this.#phase === "connected" && this.plan.protocol === 5) {
      this.#send({ cmd: "disconnect", reasonCode: code });
    }
    const message = `Connection to broker ${this.address} was given up: ${why}`;
    this.#end(new HoldfastError("SOURCE_UNREACHABLE", message, { cause }), "no", false);
  }

  #fail(why: string, cause?: unknown): void {
    const what = this.#phase === "connecting" ? "Cannot reach" : "Lost";
    const message = `${what} broker ${this.address}: ${why}`;
    const error = new HoldfastError("SOURCE_UNREACHABLE", message, { cause });
    const isAnswer = this.#phase === "connecting" && why.startsWith("its answer");
    this.#end(error, isAnswer ? "perhaps" : "no", false);
  }

  #closed(): void {
    if (this.#phase === "ended") return;
    const hungUpOnConnect = this.#phase === "connecting" && this.plan.protocol === 5;
    const what = hungUpOnConnect ? "Cannot reach" : "Lost";
    const message = `${what} broker ${this.address}: it closed the connection`;
    const error = new HoldfastError("SOURCE_UNREACHABLE", message);
    this.#end(error, hungUpOnConnect ? "perhaps" : "no", false);
  }

  #end(
    error: HoldfastError,
    needsOlderProtocol: End["needsOlderProtocol"],
    isTakenOver: boolean,
  ): void {
    if (this.#phase === "ended") return;
    this.#finish();
    const socket = this.#socket;
    // A DISCONNECT of ours may still be on its way out; a dead link would keep it for a quarter of an hour.
    socket?.destroySoon();
    const timer = this.#clock.after(farewellMs, () => socket?.destroy());
    socket?.once("close", () => timer.cancel());
    this.#listener.ended({ error, needsOlderProtocol, isTakenOver });
  }

  #finish(): void {
    this.#phase = "ended";
    this.#timer?.cancel();
    this.#keepAlive.stop();
    this.#acks = [];
    this.#pings = [];
  }
}

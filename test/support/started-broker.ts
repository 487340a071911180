/** The embedded broker on a free port, and clients that speak MQTT packet by packet. */
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import mqttPacket, { type Packet } from "mqtt-packet";
import { create } from "superstruct";
import type { Clock } from "../../src/core/clock.ts";
import { brokerSourceOptions, type BrokerSourceOptions } from "../../src/source/broker-options.ts";
import { createBrokerSource } from "../../src/source/broker.ts";
import type { Source } from "../../src/source/source.ts";
import { heldIntake, type HeldIntake } from "./held-intake.ts";
import { freePort } from "./mosquitto.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";
import { until } from "./until.ts";

export interface StartedBroker {
  readonly source: Source;
  readonly intake: HeldIntake;
  readonly context: RecordingContext;
  readonly port: number;
}

export function brokerOptions(more: Readonly<Record<string, unknown>> = {}): BrokerSourceOptions {
  return create({ stream: "readings", ...more }, brokerSourceOptions.struct);
}

export async function startedBroker(
  test: TestContext,
  more: Readonly<Record<string, unknown>> = {},
  parts: { intake?: HeldIntake; clock?: Clock } = {},
): Promise<StartedBroker> {
  const port = await freePort();
  const intake = parts.intake ?? heldIntake();
  const context = recordingContext("listen", parts.clock);
  const options = brokerOptions({ listen: `127.0.0.1:${port}`, ...more });
  const source = createBrokerSource(context, options);
  test.after(() => source.close(0));
  await source.open(intake);
  return { source, intake, context, port };
}

export interface RawClient {
  readonly socket: Socket;
  readonly packets: Packet[];
  of(cmd: Packet["cmd"]): Packet[];
  /** Identifiers of the acknowledgements of one kind, in order of arrival. */
  ids(cmd: Packet["cmd"]): number[];
  send(...packets: Packet[]): void;
  publish(messageId: number, more?: Readonly<Record<string, unknown>>): void;
  received(cmd: Packet["cmd"], count?: number): Promise<Packet>;
  /** A round trip through the broker: what it had to say before has arrived. */
  settled(): Promise<void>;
  isClosed(): boolean;
  gone(): Promise<void>;
}

/** Connected and greeted, unless `connectAs` is null. */
export async function rawClient(
  test: TestContext,
  port: number,
  connectAs: Readonly<Record<string, unknown>> | null = {},
): Promise<RawClient> {
  const socket = connect(port, "127.0.0.1");
  test.after(() => socket.destroy());
  const packets: Packet[] = [];
  let isClosed = false;
  socket.on("error", () => undefined);
  socket.on("close", () => (isClosed = true));
  const parser = mqttPacket.parser();
  parser.on("packet", (packet) => packets.push(packet));
  socket.on("data", (data) => parser.parse(data));
  const client: RawClient = {
    socket,
    packets,
    of: (cmd) => packets.filter((packet) => packet.cmd === cmd),
    ids: (cmd) => client.of(cmd).map((packet) => packet.messageId ?? -1),
    send(...sent) {
      socket.write(Buffer.concat(sent.map((packet) => mqttPacket.generate(packet))));
    },
    publish: (messageId, more) => client.send(publishPacket(messageId, more)),
    async received(cmd, count = 1) {
      await until(`${count} ${cmd}`, () => client.of(cmd).length >= count || isClosed);
      const packet = client.of(cmd)[count - 1];
      if (packet === undefined) throw new Error(`The connection was closed before ${count} ${cmd}`);
      return packet;
    },
    async settled() {
      const before = client.of("pingresp").length;
      client.send({ cmd: "pingreq" });
      await client.received("pingresp", before + 1);
    },
    isClosed: () => isClosed,
    gone: () => until("the connection to be closed", () => isClosed),
  };
  if (connectAs !== null) {
    client.send(connectPacket(connectAs));
    await client.received("connack");
  }
  return client;
}

export function connectPacket(more: Readonly<Record<string, unknown>> = {}): Packet {
  return {
    cmd: "connect",
    protocolId: "MQTT",
    protocolVersion: 4,
    clean: true,
    clientId: "c1",
    keepalive: 60,
    ...more,
  };
}

export function publishPacket(
  messageId: number,
  more: Readonly<Record<string, unknown>> = {},
): Packet {
  return {
    cmd: "publish",
    topic: "load/d1",
    payload: `{"n":${messageId}}`,
    qos: 1,
    dup: false,
    retain: false,
    messageId,
    ...more,
  };
}

/**
 * Takes what arrives at a broker, packet by packet: MQTT 5, QoS 1, a session that outlives connections, connecting
 * again by itself. A message counts as received when its bytes are parsed, before anything else can happen to it.
 */
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import mqttPacket from "mqtt-packet";
import { until } from "./until.ts";

export interface Received {
  readonly topic: string;
  readonly payload: string;
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface Subscriber {
  readonly received: readonly Received[];
  isSubscribed(): boolean;
}

const reconnectMs = 50;

/** Resolves when the broker has granted the subscription. */
export async function startSubscriber(
  t: TestContext,
  port: number,
  topic: string,
): Promise<Subscriber> {
  const received: Received[] = [];
  let [isSubscribed, isOver] = [false, false];
  let socket: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  const write = (packet: mqttPacket.Packet): void => {
    socket?.write(mqttPacket.generate(packet, { protocolVersion: 5 }));
  };
  const handle = (packet: mqttPacket.Packet): void => {
    if (packet.cmd === "connack") {
      write({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic, qos: 1 }] });
    } else if (packet.cmd === "suback") isSubscribed = true;
    else if (packet.cmd === "publish") {
      received.push({
        topic: packet.topic,
        payload: packet.payload.toString(),
        properties: { ...packet.properties?.userProperties },
      });
      if (packet.qos === 1) write({ cmd: "puback", messageId: packet.messageId ?? 0 });
    }
  };
  const open = (): void => {
    const made = connect(port, "127.0.0.1");
    socket = made;
    const parser = mqttPacket.parser({ protocolVersion: 5 });
    parser.on("packet", handle);
    made.on("data", (data) => parser.parse(data));
    made.on("error", () => undefined);
    made.once("connect", () =>
      write({
        cmd: "connect",
        protocolId: "MQTT",
        protocolVersion: 5,
        clean: false,
        clientId: "upstream-subscriber",
        keepalive: 0,
        properties: { sessionExpiryInterval: 3600, receiveMaximum: 65_535 },
      }),
    );
    made.once("close", () => {
      isSubscribed = false;
      if (!isOver) timer = setTimeout(open, reconnectMs);
    });
  };
  t.after(() => {
    isOver = true;
    clearTimeout(timer);
    socket?.destroy();
  });
  open();
  await until("the subscription", () => isSubscribed);
  return { received, isSubscribed: () => isSubscribed };
}

/** An MQTT broker that does what the test tells it: a real socket on loopback, the packets in the test's hand. */
import { generate, parser, type Packet } from "mqtt-packet";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { until } from "./until.ts";

export interface ScriptedBroker {
  readonly url: string;
  /** Connections so far, the last one last. */
  readonly clients: ScriptedClient[];
  /** Called with each new connection, before anything of it is read. */
  onClient: (client: ScriptedClient) => void;
  /** Waits for connection `number` (1 is the first) and its CONNECT, and answers both it and SUBSCRIBE. */
  accept(
    number: number,
    options?: { sessionPresent?: boolean; granted?: number[] },
  ): Promise<ScriptedClient>;
}

export interface ScriptedClient {
  readonly socket: Socket;
  readonly packets: Packet[];
  isClosed: boolean;
  version: number;
  of(cmd: Packet["cmd"]): Packet[];
  ids(cmd: Packet["cmd"]): number[];
  send(...packets: Packet[]): void;
  received(cmd: Packet["cmd"], count?: number): Promise<Packet>;
}

export async function scriptedBroker(test: TestContext): Promise<ScriptedBroker> {
  const server = createServer();
  const broker: ScriptedBroker = {
    url: "",
    clients: [],
    onClient: () => undefined,
    async accept(number, options = {}) {
      await until(`connection ${number}`, () => broker.clients.length >= number);
      const client = broker.clients[number - 1];
      if (client === undefined) throw new Error("No such connection");
      await client.received("connect");
      const sessionPresent = options.sessionPresent ?? false;
      client.send({
        cmd: "connack",
        sessionPresent,
        ...(client.version === 5 ? { reasonCode: 0 } : { returnCode: 0 }),
      });
      const subscribe = await client.received("subscribe");
      if (subscribe.cmd !== "subscribe") throw new Error("No SUBSCRIBE");
      const granted = options.granted ?? subscribe.subscriptions.map(({ qos }) => qos);
      client.send({ cmd: "suback", messageId: subscribe.messageId ?? 0, granted });
      return client;
    },
  };
  server.on("connection", (socket) => {
    const client = scriptedClient(socket);
    broker.clients.push(client);
    broker.onClient(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  test.after(() => close(server, broker.clients));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port was given");
  return Object.assign(broker, { url: `mqtt://127.0.0.1:${address.port}` });
}

async function close(server: Server, clients: readonly ScriptedClient[]): Promise<void> {
  for (const { socket } of clients) socket.destroy();
  server.close();
  await once(server, "close");
}

function scriptedClient(socket: Socket): ScriptedClient {
  const incoming = parser();
  const client: ScriptedClient = {
    socket,
    packets: [],
    isClosed: false,
    version: 4,
    of: (cmd) => client.packets.filter((packet) => packet.cmd === cmd),
    ids: (cmd) => client.of(cmd).map(({ messageId }) => messageId ?? 0),
    send(...packets) {
      const options = { protocolVersion: client.version };
      socket.write(Buffer.concat(packets.map((packet) => generate(packet, options))));
    },
    async received(cmd, count = 1) {
      await until(`${count} ${cmd}`, () => client.of(cmd).length >= count);
      const packet = client.of(cmd)[count - 1];
      if (packet === undefined) throw new Error(`No ${cmd}`);
      return packet;
    },
  };
  incoming.on("packet", (packet) => {
    if (packet.cmd === "connect") client.version = packet.protocolVersion ?? 4;
    client.packets.push(packet);
  });
  socket.on("data", (chunk) => incoming.parse(chunk));
  socket.on("error", () => undefined);
  socket.on("close", () => (client.isClosed = true));
  return client;
}

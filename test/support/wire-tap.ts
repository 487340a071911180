/**
 * A listener between an MQTT 5 broker and a client, which notes each PUBLISH that the broker really handed over.
 *
 * A killed broker takes along what it had acknowledged to a publisher and not yet brought onto the wire (in its
 * memory, or in the kernel's send buffer, which goes with a reset). That is its loss; what passed here is ours.
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import mqttPacket from "mqtt-packet";

export interface WireTap {
  readonly port: number;
  /** Payloads that went on to the client, in order, repeats too. */
  readonly handedOver: readonly string[];
  /** When the last one did, by performance.now(). */
  lastMs(): number;
}

export async function startWireTap(t: TestContext, brokerPort: number): Promise<WireTap> {
  const handedOver: string[] = [];
  const sockets = new Set<Socket>();
  let lastMs = 0;
  const server = createServer((client) => {
    const broker = connect(brokerPort, "127.0.0.1");
    const parser = mqttPacket.parser({ protocolVersion: 5 });
    parser.on("packet", (packet) => {
      if (packet.cmd !== "publish") return;
      handedOver.push(packet.payload.toString());
      lastMs = performance.now();
    });
    broker.on("data", (data) => {
      client.write(data);
      parser.parse(data);
    });
    client.on("data", (data) => broker.write(data));
    // FIN, not RST: what was taken from the broker still reaches the client.
    broker.on("close", () => client.end());
    client.on("close", () => broker.destroy());
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("close", () => sockets.delete(socket));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port was given");
  return { port: address.port, handedOver, lastMs: () => lastMs };
}

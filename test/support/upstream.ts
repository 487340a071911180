/** An upstream broker that comes to life later, with its subscriber there before anything can be delivered to it. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { startMosquitto } from "./mosquitto.ts";
import { startSubscriber, type Subscriber } from "./subscriber.ts";

/**
 * The broker listens on a port of its own, and is forwarded to from `port` once the subscription is granted: a sink
 * that connects sooner delivers to nobody.
 */
export async function startUpstream(
  t: TestContext,
  folder: string,
  port: number,
): Promise<Subscriber> {
  const broker = await startMosquitto(folder, "max_inflight_messages 0\n");
  t.after(() => broker.kill());
  const subscriber = await startSubscriber(t, broker.port, "edge/#");
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(broker.port, "127.0.0.1");
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        near.destroy();
        far.destroy();
        sockets.delete(socket);
      });
    }
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return subscriber;
}

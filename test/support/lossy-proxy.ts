/**
 * A way to a server that loses answers: what the client asks arrives, and now and then the connection is cut before
 * the answer comes back.
 */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import type { TestContext } from "node:test";

export interface LossyProxy {
  readonly port: number;
  /** How many answers it has lost. */
  lost(): number;
  /** Cuts who is connected; further ones get through. */
  cut(): void;
}

/** `loses` is asked at each answer that comes by. */
export async function startLossyProxy(
  t: TestContext,
  port: number,
  loses: (answer: Buffer) => boolean,
): Promise<LossyProxy> {
  const sockets = new Set<Socket>();
  let lost = 0;
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    const end = (): void => {
      near.destroy();
      far.destroy();
    };
    near.on("data", (data) => far.write(data));
    far.on("data", (data) => {
      if (loses(data)) {
        lost++;
        end();
      } else near.write(data);
    });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", end);
      socket.on("close", () => {
        end();
        sockets.delete(socket);
      });
    }
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    lost: () => lost,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** The embedded broker's port. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { listenOf, tlsOf, type BrokerSourceOptions } from "./broker-options.ts";
import type { RareLog } from "./rare-log.ts";

export interface ListenerParts {
  readonly options: BrokerSourceOptions;
  readonly handshakeTimeoutMs: number;
  readonly rarely: RareLog;
  readonly onSocket: (socket: Socket) => void;
}

/** Resolves when it listens. @throws HoldfastError LISTEN_FAILED, SECRET_UNREADABLE, CONFIG_INVALID */
export async function openListener(parts: ListenerParts): Promise<Server> {
  const { options, rarely } = parts;
  const server = options.tls === undefined ? plain(parts) : secure(parts, options.tls);
  server.maxConnections = options.maxConnections;
  await listen(server, options.listen);
  server.on("error", (error) => rarely.warn("server", `Clients fail: ${messageOf(error)}`));
  server.on("drop", () =>
    rarely.warn("drop", `Turned a client away: ${options.maxConnections} are connected`),
  );
  return server;
}

function plain({ onSocket }: ListenerParts): Server {
  return createServer({ noDelay: true }, (socket) => onSocket(socket));
}

function secure(
  { rarely, onSocket, handshakeTimeoutMs }: ListenerParts,
  tls: NonNullable<BrokerSourceOptions["tls"]>,
): Server {
  const files = tlsOf(tls);
  try {
    const server = createTlsServer(
      { ...files, noDelay: true, handshakeTimeout: handshakeTimeoutMs },
      (socket) => onSocket(socket),
    );
    return server.on("tlsClientError", (error) =>
      rarely.warn("tls", `TLS with a client failed: ${messageOf(error)}`),
    );
  } catch (cause) {
    const why = `Cannot use certificate ${tls.cert} with key ${tls.key}: ${messageOf(cause)}`;
    throw new HoldfastError("CONFIG_INVALID", why, { cause });
  }
}

function listen(server: Server, address: string): Promise<void> {
  const reasons: Record<string, string> = {
    EADDRINUSE: "address is in use",
    EACCES: "this user may not",
    EADDRNOTAVAIL: "no network interface has that address",
    ENOTFOUND: "no address is known for that name",
  };
  return new Promise((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => {
      const why = reasons[cause.code ?? ""] ?? messageOf(cause);
      reject(new HoldfastError("LISTEN_FAILED", `Cannot listen on ${address}: ${why}`, { cause }));
    };
    server.once("error", failed);
    server.listen({ ...listenOf({ listen: address }), exclusive: true }, () => {
      server.off("error", failed);
      resolve();
    });
  });
}

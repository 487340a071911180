/** Where to listen: `127.0.0.1:8000`, `[::1]:8000` or `unix:/run/holdfast/admin.sock`. */
import { chmodSync, existsSync, lstatSync, unlinkSync } from "node:fs";
import { connect, isIP, type Server } from "node:net";
import { dirname } from "node:path";
import { HoldfastError, messageOf } from "../core/errors.ts";

export type Listen =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** Owner and group: whoever may administer the agent is put into its group. */
const socketMode = 0o660;

/** @throws HoldfastError LISTEN_FAILED when `address` is none */
export function parseListen(address: string): Listen {
  if (address.startsWith("unix:/")) return { kind: "unix", path: address.slice("unix:".length) };
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})$/.exec(address);
  const [host, port] = [match?.[1] ?? match?.[2], Number(match?.[3])];
  if (host === undefined || port > 65_535) {
    throw new HoldfastError("LISTEN_FAILED", `Cannot listen on ${address}: not an address`);
  }
  return { kind: "tcp", host, port };
}

/** Whether nobody outside this machine can reach it. */
export function isLocal(listen: Listen): boolean {
  if (listen.kind === "unix") return true;
  return isLoopback(listen.host);
}

export function isLoopback(host: string): boolean {
  if (host === "localhost" || host === "::1") return true;
  return isIP(host) === 4 && host.startsWith("127.");
}

/**
 * Binds `server`; resolves with the address that it really has (port 0 becomes the one it was given).
 * @throws HoldfastError LISTEN_FAILED
 */
export async function bind(server: Server, listen: Listen): Promise<string> {
  if (listen.kind === "unix") await clearStaleSocket(listen.path);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      const bound = (): void => {
        server.off("error", reject);
        resolve();
      };
      if (listen.kind === "tcp") {
        server.listen({ host: listen.host, port: listen.port, exclusive: true }, bound);
        return;
      }
      // The socket is made within listen(): nobody shall get in before chmod.
      const before = process.umask(0o777 & ~socketMode);
      server.listen({ path: listen.path }, bound);
      process.umask(before);
    });
    if (listen.kind === "unix") chmodSync(listen.path, socketMode);
  } catch (cause) {
    throw listenFailed(listen, cause);
  }
  const address = server.address();
  if (listen.kind === "unix" || address === null || typeof address === "string") {
    return formatListen(listen);
  }
  return formatListen({ ...listen, port: address.port });
}

export function formatListen(listen: Listen): string {
  if (listen.kind === "unix") return `unix:${listen.path}`;
  return `${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`;
}

/** A socket that a killed agent left behind is in the way; one that is answered, or no socket at all, is not ours. */
async function clearStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new HoldfastError("LISTEN_FAILED", `Cannot listen on unix:${path}: a file is in the way`);
  }
  if (await isAnswered(path)) {
    throw new HoldfastError(
      "LISTEN_FAILED",
      `Cannot listen on unix:${path}: another process has it`,
    );
  }
  try {
    unlinkSync(path);
  } catch (cause) {
    throw listenFailed({ kind: "unix", path }, cause);
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // unix(7): ECONNREFUSED means that nobody listens. With anything else (EACCES, say) somebody may.
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "ECONNREFUSED"));
  });
}

function listenFailed(listen: Listen, cause: unknown): HoldfastError {
  const where = formatListen(listen);
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  // libuv tells a missing folder as EACCES (uv__pipe_bind).
  const hasFolder = listen.kind === "tcp" || existsSync(dirname(listen.path));
  const reasons: Record<string, string> = {
    EADDRINUSE: "another process has it",
    EACCES: hasFolder ? "this user may not" : "its folder does not exist",
    EADDRNOTAVAIL: "no network interface has that address",
    ENOTFOUND: "no address is known for that name",
  };
  const why = reasons[code] ?? messageOf(cause);
  return new HoldfastError("LISTEN_FAILED", `Cannot listen on ${where}: ${why}`, { cause });
}

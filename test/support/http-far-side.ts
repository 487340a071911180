/**
 * A small real HTTP server that a sink posts to. It records each request, keeps its events, and does to chosen
 * requests what servers do: refuse, hang, cut the connection before or after it has taken the events.
 *
 * It honours `Idempotency-Key` where it is told to: what has been taken under a key is not taken again.
 */
import { once } from "node:events";
import {
  createServer,
  type IncomingHttpHeaders,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import type { Socket } from "node:net";
import type { TestContext } from "node:test";
import { gunzipSync, zstdDecompressSync } from "node:zlib";

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Decompressed. */
  readonly body: Buffer;
  /** As it came. */
  readonly wireBytes: number;
  readonly key: string;
}

export type Fate =
  | "take"
  /** The events are kept, the answer never comes. */
  | "take-and-cut"
  | "take-and-hang"
  | "cut"
  | "hang"
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
      /** The events are kept all the same. */
      readonly takes?: true;
      /** Cut off within the body. */
      readonly isCut?: true;
    };

export interface HttpFarSide {
  readonly url: string;
  readonly requests: Received[];
  /** What it keeps, in order. */
  readonly taken: Received[];
  readonly connections: () => number;
  fate: (request: Received, number: number) => Fate;
  honoursKeys: boolean;
  /** Nobody listens any more, connections are cut. */
  goAway(): Promise<void>;
  comeBack(): Promise<void>;
}

export async function httpFarSide(t: TestContext, tls?: ServerOptions): Promise<HttpFarSide> {
  const sockets = new Set<Socket>();
  const keys = new Set<string>();
  let connections = 0;
  let port = 0;
  let server: Server | undefined;
  const take = (request: Received): void => {
    if (far.honoursKeys && keys.has(request.key)) return;
    keys.add(request.key);
    far.taken.push(request);
  };
  const listen = async (): Promise<void> => {
    const made = tls === undefined ? createServer() : createTlsServer(tls);
    server = made;
    made.on("connection", (socket: Socket) => {
      connections++;
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => sockets.delete(socket));
    });
    made.on("request", (message, response) => {
      const chunks: Buffer[] = [];
      // A request that is cut off is none.
      message.on("error", () => undefined);
      message.on("data", (chunk: Buffer) => chunks.push(chunk));
      message.on("end", () => {
        const raw = Buffer.concat(chunks);
        const request = receivedFrom(message.url ?? "", message.headers, raw);
        far.requests.push(request);
        answer(response, far.fate(request, far.requests.length), () => take(request));
      });
    });
    made.listen(port, "127.0.0.1");
    await once(made, "listening");
    port = (made.address() as { port: number }).port;
  };
  const goAway = async (): Promise<void> => {
    const going = server;
    server = undefined;
    if (going === undefined) return;
    going.close();
    for (const socket of sockets) socket.destroy();
    await once(going, "close");
  };
  const far: HttpFarSide = {
    get url() {
      return `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`;
    },
    requests: [],
    taken: [],
    connections: () => connections,
    fate: () => "take",
    honoursKeys: false,
    goAway,
    comeBack: listen,
  };
  t.after(goAway);
  await listen();
  return far;
}

function receivedFrom(path: string, headers: IncomingHttpHeaders, raw: Buffer): Received {
  const encoding = headers["content-encoding"];
  const body =
    encoding === "gzip" ? gunzipSync(raw) : encoding === "zstd" ? zstdDecompressSync(raw) : raw;
  return { path, headers, body, wireBytes: raw.length, key: String(headers["idempotency-key"]) };
}

function answer(response: ServerResponse, fate: Fate, take: () => void): void {
  const cut = (): void => void response.socket?.destroy();
  if (fate === "hang") return undefined;
  if (fate === "cut") return cut();
  if (typeof fate === "string") {
    take();
    if (fate === "take-and-hang") return undefined;
    if (fate === "take-and-cut") return cut();
    response.writeHead(204).end();
    return undefined;
  }
  const { status, headers = {}, body = "", isCut, takes } = fate;
  if (takes) take();
  response.writeHead(status, headers);
  if (isCut) response.write(body, cut);
  else response.end(body);
  return undefined;
}

/** The lines of NDJSON that the far side holds. */
export function linesOf(requests: readonly Received[]): Record<string, unknown>[] {
  return requests.flatMap(({ body }) =>
    body
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  );
}

/**
 * The HTTP server of both ports: node:http and a table of routes.
 *
 * Bounded in all that a client can ask for: connections, header bytes, body bytes, time. The Host header is checked
 * on both ports: a web page in the browser of somebody in this network may resolve its own name to our address
 * (DNS rebinding) and would then read the answers, loopback or not.
 */
import { createServer, type IncomingMessage } from "node:http";
import { isIP } from "node:net";
import { hostname } from "node:os";
import type { Log } from "../core/context.ts";
import { asProblem, Problem, problemAnswer, sendAnswer, type Answer } from "./answer.ts";
import { bind, type Listen } from "./listen.ts";

export interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  /** `{name}` matches one part of the path. */
  readonly path: string;
  /** One sentence for openapi.json. */
  readonly summary: string;
  /** Query parameters and what they mean, for openapi.json. */
  readonly query?: Readonly<Record<string, string>>;
  /** It answers before what it began is done. */
  readonly isBegun?: true;
  handle(request: Request): Answer | Promise<Answer>;
}

export interface Request {
  readonly parameters: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  header(name: string): string | undefined;
  /** At most `bytesMax`; left out: 64 KiB. */
  body(bytesMax?: number): Promise<Buffer>;
}

export interface HttpServer {
  /** @throws HoldfastError LISTEN_FAILED */
  open(): Promise<void>;
  /** The address in use, such as `127.0.0.1:8000`; known once open. */
  address(): string;
  /** Ends every connection. May be called twice, and after a failed `open`. */
  close(): Promise<void>;
}

interface HttpParts {
  readonly log: Log;
  readonly listen: Listen;
  readonly routes: readonly Route[];
  /** Throws a Problem for who may not come in; asked before anything is told, a 404 too. */
  readonly admit?: (request: Request) => void;
  /** Names by which the machine is known beside its own. */
  readonly hosts?: readonly string[];
  readonly requestTimeoutMs?: number;
}

/** A Prometheus, a few browsers and a follower or two; more is a mistake or an attack. */
const connectionsMax = 64;
/** Browsers send some 1 KiB of headers, a bearer token is shorter. */
const headerBytesMax = 8 * 1024;
const bodyBytesMax = 64 * 1024;
/** For a whole request to arrive; also against clients that send one byte at a time. */
const requestTimeoutMsStandard = 10_000;
/** Node ends a connection on which nothing moved for this long; longer than the heartbeat of a followed stream. */
const idleTimeoutMs = 60_000;

export function createHttpServer(parts: HttpParts): HttpServer {
  const requestTimeoutMs = parts.requestTimeoutMs ?? requestTimeoutMsStandard;
  const server = createServer({
    maxHeaderSize: headerBytesMax,
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(5_000, requestTimeoutMs),
    keepAliveTimeout: 5_000,
  });
  server.maxConnections = connectionsMax;
  server.timeout = idleTimeoutMs;

  const find = createFind(parts);
  const answerOf = async (message: IncomingMessage): Promise<Answer> => {
    try {
      return await find(message);
    } catch (error) {
      const problem = asProblem(error);
      if (problem !== undefined) return problemAnswer(problem);
      parts.log.error("A request failed by a mistake of ours", { url: message.url, error });
      return problemAnswer(new Problem(500, "The agent made a mistake: its log tells more"));
    }
  };
  server.on("request", (message, response) => {
    void answerOf(message).then((answer) => sendAnswer(message, response, answer));
  });

  let address = "";
  return {
    async open() {
      address = await bind(server, parts.listen);
      server.on("error", (error) => parts.log.error("The HTTP server failed", { error }));
    },
    address: () => address,
    async close() {
      if (!server.listening) return;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** From a request to its route's answer; throws a Problem where there is none. */
function createFind(parts: HttpParts): (message: IncomingMessage) => Promise<Answer> {
  const routes = parts.routes.map((route) => ({ ...route, match: compile(route.path) }));
  const isKnownHost = hostCheck(parts.listen, parts.hosts ?? []);
  return async (message) => {
    const url = urlOf(message);
    const request = requestOf(message, url);
    if (!isKnownHost(message.headers.host)) {
      throw new Problem(
        421,
        "The Host header names another machine: use the IP address or the host name",
      );
    }
    parts.admit?.(request);
    if (
      message.method !== "GET" &&
      message.method !== "HEAD" &&
      message.headers.origin !== undefined
    ) {
      // A page of another site may send requests from a browser on this machine without asking first.
      throw new Problem(403, "Web pages may only read");
    }
    const fits = routes.filter((route) => route.match(url.pathname) !== null);
    if (fits.length === 0) throw new Problem(404, `There is nothing at ${url.pathname}`);
    const method = message.method === "HEAD" ? "GET" : message.method;
    const route = fits.find((candidate) => candidate.method === method);
    if (route === undefined) {
      const allowed = fits.flatMap((fit) =>
        fit.method === "GET" ? ["GET", "HEAD"] : [fit.method],
      );
      throw new Problem(
        405,
        `${message.method} is not possible here`,
        {},
        { allow: allowed.join(", ") },
      );
    }
    return route.handle({ ...request, parameters: route.match(url.pathname) ?? {} });
  };
}

function requestOf(message: IncomingMessage, url: URL): Request {
  return {
    parameters: {},
    query: url.searchParams,
    header(name) {
      const value = message.headers[name];
      return Array.isArray(value) ? value[0] : value;
    },
    async body(bytesMax = bodyBytesMax) {
      const chunks: Buffer[] = [];
      let bytes = 0;
      try {
        for await (const chunk of message as AsyncIterable<Buffer>) {
          bytes += chunk.length;
          if (bytes > bytesMax) throw new Problem(413, `A body has at most ${bytesMax} bytes`);
          chunks.push(chunk);
        }
      } catch (error) {
        // Nobody reads the answer to who hung up in the middle: only no mistake of ours shall be told.
        if (error instanceof Problem || !message.destroyed) throw error;
        throw new Problem(400, "The client hung up before its body ended");
      }
      return Buffer.concat(chunks);
    },
  };
}

function urlOf(message: IncomingMessage): URL {
  // A path such as `//x` must stay a path: hence a base put in front, not a second argument.
  const url = `http://agent${message.url ?? "/"}`;
  if (!message.url?.startsWith("/") || !URL.canParse(url))
    throw new Problem(400, "The path is none");
  return new URL(url);
}

type Match = (path: string) => Readonly<Record<string, string>> | null;

function compile(pattern: string): Match {
  const names = [...pattern.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
  const regex = new RegExp(
    `^${pattern.replaceAll(".", String.raw`\.`).replaceAll(/\{\w+\}/g, "([^/]+)")}$`,
  );
  return (path) => {
    const match = regex.exec(path);
    if (match === null) return null;
    return Object.fromEntries(names.map((name, index) => [name, decoded(match[index + 1] ?? "")]));
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Problem(400, "The path is not percent-encoded UTF-8");
  }
}

/** Which Host headers are ours. An IP address cannot be rebound; a unix socket no browser can reach. */
function hostCheck(
  listen: Listen,
  extra: readonly string[],
): (host: string | undefined) => boolean {
  if (listen.kind === "unix") return () => true;
  const own = hostname().toLowerCase();
  const short = own.split(".")[0] ?? own;
  // The last one is how the machine announces itself in its own network (mDNS).
  const known = new Set(["localhost", own, short, `${short}.local`, listen.host, ...extra]);
  return (host) => {
    // Probes that speak HTTP/1.0 send none; a browser always does, and for 1.1 node:http insists on it.
    if (host === undefined) return true;
    const name = /^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(host)?.[1]?.toLowerCase() ?? "";
    return (
      known.has(name) || isIP(name.replaceAll(/^\[|\]$/g, "")) !== 0 || name.endsWith(".localhost")
    );
  };
}

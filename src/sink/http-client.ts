/**
 * One request at a time to one HTTP server, over a connection that is kept: what the sinks that speak HTTP share.
 *
 * On Node's own client. undici was measured beside it (3,000 requests of 40 kB, the flags of a small board): the
 * same CPU for each request, 12 MiB more memory; the built-in fetch takes 22 MiB more and three times the CPU, and
 * knows no client certificates.
 *
 * It reports what was answered; what that means is http-answers.ts's business. It follows no redirect. A request
 * that was cut off on a connection that had been idle is sent once more at once: the server may have closed it as
 * our request came (RFC 9112, section 9.3.1), and what we send may be repeated.
 *
 * Bounds: two connections; of an answer's body 64 KiB are read, of its head 16 KiB (Node's own); three times: to
 * connect, until the answer's head is there, and for the whole.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import type { Clock, Timer } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { addressOf, type FarAddress } from "../core/far-address.ts";
import { readTlsClient, type TlsClientFiles, type TlsClientSettings } from "../core/tls.ts";
import { connectionError } from "./http-answers.ts";

export interface HttpClientParts {
  readonly clock: Clock;
  /** Which server; its path counts for nothing here. */
  readonly url: URL;
  readonly tls: TlsClientSettings;
  readonly timeouts: HttpTimeouts;
}

export interface HttpTimeouts {
  readonly connectMs: number;
  /** From the connection on until the head of the answer is there. */
  readonly answerMs: number;
  readonly wholeMs: number;
}

export interface HttpRequest {
  readonly url: URL;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The beginning of it. */
  readonly body: string;
  /** What our request took on the connection, with its head; under TLS without what that adds. */
  readonly sentBytes: number;
}

/** An error's sentence is in the first lines; a page that is larger is no answer of an API. */
const bodyBytesMax = 64 * 1024;
/** One is in use; a second one while the first, given up, ends. */
const socketsMax = 2;

export class HttpClient {
  readonly #parts: HttpClientParts;
  readonly #far: string;
  #agent: HttpAgent | null = null;
  /** Connected by `open`, for the first request. */
  #spare: Socket | null = null;

  constructor(parts: HttpClientParts) {
    this.#parts = parts;
    // Without user, password and path, which may hold a token.
    this.#far = parts.url.origin;
  }

  get far(): string {
    return this.#far;
  }

  /** Connects: a server that is not there, or whose certificate is not good, shows before there is an event. */
  async open(signal: AbortSignal): Promise<void> {
    const isTls = this.#parts.url.protocol === "https:";
    const files = isTls ? readTlsClient(this.#parts.tls) : undefined;
    const agent = files === undefined ? new HttpAgent(kept) : new HttpsAgent({ ...kept, ...files });
    const fresh = agent.createConnection.bind(agent);
    agent.createConnection = (options, created) => {
      const spare = this.#spare;
      this.#spare = null;
      // One that the server has ended is not yet destroyed, and serves no more.
      return spare?.readyState === "open" ? spare : fresh(options, created);
    };
    this.#agent = agent;
    this.#spare = await this.#connect(files, signal);
    this.#spare.once("close", () => (this.#spare = null));
    this.#spare.on("error", () => undefined);
  }

  /** @throws HoldfastError where there is no answer */
  async post(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    const agent = this.#agent;
    if (agent === null) throw new Error("post() before open()");
    const first = new Exchange(this.#parts, agent, request);
    try {
      return await first.run(signal);
    } catch (error) {
      if (!first.metStaleConnection) throw error;
      return await new Exchange(this.#parts, agent, request).run(signal);
    }
  }

  close(): void {
    this.#spare?.destroy();
    this.#agent?.destroy();
    this.#spare = null;
    this.#agent = null;
  }

  #connect(files: TlsClientFiles | undefined, signal: AbortSignal): Promise<Socket> {
    const { url, clock, timeouts } = this.#parts;
    // Its schemes are known there.
    const { host, port } = addressOf(url) as FarAddress;
    const connected = Promise.withResolvers<Socket>();
    // Happy eyeballs as Node does it; a certificate is for the name, and an address has none (RFC 6066).
    const socket =
      files === undefined
        ? connectTcp({ host, port })
        : connectTls({ host, port, ALPNProtocols: ["http/1.1"], ...servername(host), ...files });
    const fail = (error: unknown): void => {
      socket.destroy();
      connected.reject(connectionError(this.#far, error));
    };
    const timer = clock.after(timeouts.connectMs, () => fail(silence("connect", timeouts)));
    const abort = (): void => fail(stopped());
    socket.once(files === undefined ? "connect" : "secureConnect", () => connected.resolve(socket));
    socket.on("error", fail);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    return connected.promise.finally(() => {
      timer.cancel();
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
      socket.on("error", () => undefined);
    });
  }
}

const kept = { keepAlive: true, maxSockets: socketsMax, maxFreeSockets: 1 };

/** One request and its answer. */
class Exchange {
  readonly #parts: HttpClientParts;
  readonly #request: ClientRequest;
  readonly #body: Buffer;
  readonly #ended = Promise.withResolvers<HttpAnswer>();
  readonly #timers: Timer[] = [];
  #connecting: Timer | undefined;
  #socket: Socket | null = null;
  #sentBefore = 0;
  #answer: { readonly message: IncomingMessage; body: string } | null = null;
  #hasFailed = false;

  constructor(parts: HttpClientParts, agent: HttpAgent, { url, headers, body }: HttpRequest) {
    this.#parts = parts;
    this.#body = body;
    const open = url.protocol === "https:" ? httpsRequest : httpRequest;
    const plain = new URL(url);
    // They are in the headers, or nowhere: Node would make an Authorization of its own.
    plain.username = "";
    plain.password = "";
    try {
      const own = { "content-length": body.length, "user-agent": "holdfast" };
      this.#request = open(plain, { method: "POST", agent, headers: { ...own, ...headers } });
    } catch (cause) {
      // ERR_INVALID_CHAR: a header, or the secret in it, holds what no header may.
      const why = `Cannot deliver to ${url.origin}: ${messageOf(cause)}`;
      throw new HoldfastError("SINK_DENIED", why, { cause });
    }
  }

  /** It was cut off without an answer on a connection that had served before. */
  get metStaleConnection(): boolean {
    return this.#hasFailed && this.#request.reusedSocket && this.#answer === null;
  }

  run(signal: AbortSignal): Promise<HttpAnswer> {
    const { timeouts, clock } = this.#parts;
    const request = this.#request;
    const abort = (): void => this.#give(stopped());
    const late = (what: keyof typeof silences, ms: number): Timer =>
      clock.after(ms, () => this.#give(silence(what, timeouts)));
    this.#connecting = late("connect", timeouts.connectMs);
    this.#timers.push(this.#connecting, late("whole", timeouts.wholeMs));
    request.on("socket", (socket) => this.#onSocket(socket, late));
    request.on("response", (message) => this.#onResponse(message));
    request.on("error", (error) => {
      this.#hasFailed = isCut(error);
      this.#give(error);
    });
    // Node tells no error where the connection was ended before the request could be written.
    request.on("close", () => this.#give(new Error("the connection was lost")));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    request.end(this.#body);
    return this.#ended.promise.finally(() => {
      signal.removeEventListener("abort", abort);
      for (const timer of this.#timers) timer.cancel();
    });
  }

  #onSocket(socket: Socket, late: (what: "answer", ms: number) => Timer): void {
    this.#socket = socket;
    // What is written while it connects counts at once.
    this.#sentBefore = socket.bytesWritten;
    const connected = (): void => {
      this.#connecting?.cancel();
      this.#timers.push(late("answer", this.#parts.timeouts.answerMs));
    };
    if (isConnected(socket)) connected();
    else socket.once(socket instanceof TLSSocket ? "secureConnect" : "connect", connected);
  }

  #onResponse(message: IncomingMessage): void {
    this.#answer = { message, body: "" };
    const answer = this.#answer;
    let bytes = 0;
    message.on("data", (data: Buffer) => {
      answer.body += data.subarray(0, bodyBytesMax - bytes).toString("utf8");
      bytes += data.length;
      if (bytes >= bodyBytesMax) this.#give(null);
    });
    message.on("end", () => this.#give(null));
    // Cut off within its body: the head has said what there is to say.
    message.on("error", () => this.#give(null));
    message.on("close", () => this.#give(null));
  }

  /** Ends it: with the answer, if its head is there, else with `error`. The rest of the body is not waited for. */
  #give(error: unknown): void {
    const { url } = this.#parts;
    if (this.#answer === null) {
      this.#ended.reject(connectionError(url.origin, error));
      this.#request.destroy();
      return;
    }
    const { message, body } = this.#answer;
    const sentBytes = (this.#socket?.bytesWritten ?? 0) - this.#sentBefore;
    const { statusCode: status = 0, headers } = message;
    this.#ended.resolve({ status, headers, body, sentBytes });
    if (!message.complete) this.#request.destroy();
  }
}

const silences = {
  connect: ["connectMs", "did not connect"],
  answer: ["answerMs", "did not answer"],
  whole: ["wholeMs", "did not end its answer"],
} as const;

function silence(what: keyof typeof silences, timeouts: HttpTimeouts): Error {
  const [key, words] = silences[what];
  return new Error(`it ${words} within ${timeouts[key] / 1000} s`);
}

function stopped(): Error {
  return new Error("the delivery was stopped");
}

function isConnected(socket: Socket): boolean {
  if (socket.connecting) return false;
  return !(socket instanceof TLSSocket) || !["unknown", null].includes(socket.getProtocol());
}

function isCut(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ECONNABORTED";
}

function servername(host: string): { servername?: string } {
  return /^[\d.]+$|:/.test(host) ? {} : { servername: host };
}

/**
 * What the sinks that speak HTTP have in common around a request: address, headers, secrets, times, and the count
 * of what went over the wire.
 */
import type { OutgoingHttpHeaders } from "node:http";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import { credentialsOf } from "../core/far-address.ts";
import { duration, mapOf, oneOf, optional, secret, text, type InferAll } from "../core/field.ts";
import type { Counter } from "../core/metrics.ts";
import { tlsClientOptions } from "../core/tls.ts";
import { judge, type Verdict } from "./http-answers.ts";
import { compressBody, compressions, type Compression } from "./http-body.ts";
import { HttpClient, type HttpAnswer } from "./http-client.ts";

/** RFC 9110, 5.6.2: a token. */
const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;

export const httpSinkOptions = {
  headers: mapOf(secret({ doc: "Its value" }), {
    doc: "Headers that each request carries, such as an API key",
    names: headerName,
  }),
  token: optional(
    secret({
      doc: "Sent as `Authorization: Bearer` (to InfluxDB 2: `Token`)",
      example: { credential: "up-token" },
    }),
  ),
  username: optional(text({ doc: "The user name, where no token is asked for", example: "edge" })),
  password: optional(secret({ doc: "The password", example: { credential: "up-password" } })),
  connectTimeout: duration({
    doc: "The longest to wait for a connection, TLS included",
    default: "10s",
    min: "100ms",
    max: "10m",
  }),
  answerTimeout: duration({
    doc: "The longest to wait, once connected, for the answer to begin; the request's way is counted: 256 KiB take 32 s at 64 kbit/s",
    default: "1m",
    min: "100ms",
    max: "1h",
  }),
  timeout: duration({
    doc: "The longest that a request may take as a whole",
    default: "2m",
    min: "100ms",
    max: "1h",
  }),
  tls: tlsClientOptions,
};
type HttpSettings = InferAll<typeof httpSinkOptions>;

export function compressionOption(standard: Compression) {
  return oneOf(compressions, { doc: "How the body is compressed", default: standard });
}

export interface Sending {
  readonly url: URL;
  readonly headers?: OutgoingHttpHeaders;
  readonly body: Buffer;
  /** How it is to be compressed, or what it is when compressed. */
  readonly compression?: Compression;
  readonly compressed?: Buffer;
  /** Another reading of the answer; left out: http-answers.ts's. */
  readonly read?: (answer: HttpAnswer) => Verdict;
}

export class HttpSender {
  readonly #context: Context;
  readonly #settings: HttpSettings;
  readonly #scheme: string;
  readonly #client: HttpClient;
  readonly #requests: Readonly<Record<"confirmed" | "refused" | "failed", Counter>>;
  #headers: OutgoingHttpHeaders = {};
  #plainBytes = 0;
  #wireBytes = 0;

  /** `scheme`: how the token is told, RFC 9110, 11.4. */
  constructor(
    context: Context,
    url: URL,
    settings: HttpSettings,
    scheme: "Bearer" | "Token" = "Bearer",
  ) {
    this.#context = context;
    this.#scheme = scheme;
    this.#settings = settings;
    const { clock, metrics, name: sink } = context;
    const { connectTimeout: connectMs, answerTimeout: answerMs, timeout: wholeMs, tls } = settings;
    const timeouts = { connectMs, answerMs, wholeMs };
    this.#client = new HttpClient({ clock, url, tls, timeouts });
    const requests = (outcome: string): Counter =>
      metrics.counter("holdfast_sink_requests_total", { sink, outcome });
    this.#requests = {
      confirmed: requests("confirmed"),
      refused: requests("refused"),
      failed: requests("failed"),
    };
  }

  get far(): string {
    return this.#client.far;
  }

  /** Secrets are read at each opening, so that a rotated one is picked up. */
  async open(url: URL, signal: AbortSignal): Promise<void> {
    const { headers, token, username, password } = this.#settings;
    const named = Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      value.reveal(),
    ]);
    const own = credentialsOf(url);
    const user = username ?? own.username ?? "";
    const word = password?.reveal() ?? own.password ?? "";
    const basic = `Basic ${Buffer.from(`${user}:${word}`).toString("base64")}`;
    this.#headers = {
      ...(user !== "" && { authorization: basic }),
      ...(token !== undefined && { authorization: `${this.#scheme} ${token.reveal()}` }),
      ...(Object.fromEntries(named) as Record<string, string>),
    };
    await this.#client.open(signal);
  }

  async send(sending: Sending, signal: AbortSignal): Promise<Verdict> {
    const { bytes, headers } =
      sending.compressed === undefined
        ? await compressBody(sending.body, sending.compression ?? "none")
        : { bytes: sending.compressed, headers: {} };
    const request = {
      url: sending.url,
      headers: { ...sending.headers, ...headers, ...this.#headers },
      body: bytes,
    };
    this.#plainBytes += sending.body.length;
    let answer: HttpAnswer;
    try {
      answer = await this.#client.post(request, signal);
    } catch (error) {
      // How much of it went out nobody knows.
      this.#wireBytes += bytes.length;
      this.#requests.failed.add();
      if (!(error instanceof HoldfastError)) throw error;
      return { as: "failure", error };
    }
    this.#wireBytes += answer.sentBytes;
    const verdict = sending.read?.(answer) ?? judge(answer, this.far, this.#context.clock.wallMs());
    const isRefused = verdict.as === "refused" || verdict.as === "too-large";
    this.#requests[
      verdict.as === "confirmed" ? "confirmed" : isRefused ? "refused" : "failed"
    ].add();
    return verdict;
  }

  /** What went over the wire since this was last asked for. */
  takeBytes(): { readonly wireBytes: number; readonly plainBytes: number } {
    const taken = { wireBytes: this.#wireBytes, plainBytes: this.#plainBytes };
    this.#wireBytes = 0;
    this.#plainBytes = 0;
    return taken;
  }

  close(): void {
    this.#client.close();
  }
}

/** How commands talk to a running agent: over HTTP, or its unix socket. */
import { request as requestHttp, type IncomingMessage, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import { environment } from "../core/environment.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { HealthSnapshot } from "../host/health.ts";
import { parseListen } from "../host/listen.ts";

/** What every command that needs the agent understands, for node:util's parseArgs. */
export const adminOptions = {
  url: { type: "string" },
  token: { type: "string" },
  config: { type: "string", short: "c" },
  json: { type: "boolean", default: false },
} as const;

export interface AdminFlags {
  readonly url?: string | undefined;
  readonly token?: string | undefined;
  readonly config?: string | undefined;
}

export interface AdminClient {
  /** The answer's JSON. */
  get(path: string): Promise<unknown>;
  /** The health, which is an answer too when it is 503, and the agent's own time (its Date header), ms. */
  health(): Promise<{ health: HealthSnapshot; nowMs: number }>;
  delete(path: string): Promise<unknown>;
  post(path: string, body?: string): Promise<unknown>;
  /** The answer line by line, without the empty ones, for as long as it lasts. */
  lines(path: string): AsyncIterable<string>;
}

const standardUrl = "http://127.0.0.1:8001";
/** Nothing heard for so long, ms: the agent is gone, since a followed stream shows a sign every 25 s. */
const silenceMaxMs = 60_000;

/** @throws HoldfastError when the configuration that was named cannot be read */
export async function connectAdmin(flags: AdminFlags): Promise<AdminClient> {
  const fromFile = flags.config === undefined ? {} : await readConfig(flags.config);
  const url = flags.url ?? fromFile.url ?? environment("HOLDFAST_ADMIN_URL") ?? standardUrl;
  const token = flags.token ?? environment("HOLDFAST_ADMIN_TOKEN") ?? fromFile.token?.();
  const ask = createAsk(url, token);
  const askJson = async (method: string, path: string, sent?: string): Promise<unknown> => {
    const response = await ask(method, path, sent);
    const body = await textOf(response, url);
    const status = response.statusCode ?? 0;
    if (status !== 200 && status !== 202) throw refusal(status, body);
    return parsed(body, url);
  };
  return {
    get: (path) => askJson("GET", path),
    async health() {
      const response = await ask("GET", "/health");
      const body = await textOf(response, url);
      const status = response.statusCode ?? 0;
      if (status !== 200 && status !== 503) throw refusal(status, body);
      const health = parsed(body, url) as HealthSnapshot;
      return { health, nowMs: Date.parse(response.headers.date ?? "") };
    },
    delete: (path) => askJson("DELETE", path),
    post: (path, sent) => askJson("POST", path, sent),
    async *lines(path) {
      const response = await ask("GET", path);
      if (response.statusCode !== 200) {
        throw refusal(response.statusCode ?? 0, await textOf(response, url));
      }
      yield* linesOf(response, url);
    },
  };
}

async function readConfig(file: string): Promise<{ url?: string; token?: () => string }> {
  // Read only when asked for: it knows every kind of source and sink, and a small board feels that.
  const { loadConfig } = await import("../config/load.ts");
  const loaded = await loadConfig(file);
  if ("problems" in loaded) {
    const why = `Cannot read ${file}: it has ${loaded.problems.length} problems; run \`holdfast check --config ${file}\``;
    throw new HoldfastError("CONFIG_INVALID", why);
  }
  const { listen, token } = loaded.config.admin;
  return { url: urlOf(listen), ...(token !== undefined && { token: () => token.reveal() }) };
}

/** Where to reach what listens there: on every interface means on this machine too. */
export function urlOf(address: string): string {
  const listen = parseListen(address);
  if (listen.kind === "unix") return address;
  const anywhere: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  const host = anywhere[listen.host] ?? listen.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}`;
}

function createAsk(
  url: string,
  token: string | undefined,
): (method: string, path: string, body?: string) => Promise<IncomingMessage> {
  const isSocket = url.startsWith("unix:");
  if (!isSocket && !/^https?:\/\//.test(url)) {
    throw new HoldfastError(
      "ADMIN_UNREACHABLE",
      `Cannot reach ${url}: use http://HOST:PORT or unix:/PATH`,
    );
  }
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const options: RequestOptions = {
        method,
        timeout: silenceMaxMs,
        ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
        ...(isSocket && { socketPath: url.slice("unix:".length), path }),
      };
      const send = url.startsWith("https:") ? requestHttps : requestHttp;
      const request = isSocket
        ? send(options, resolve)
        : send(new URL(path, url), options, resolve);
      request.once("timeout", () => request.destroy(new Error("no answer")));
      request.once("error", (error) => reject(unreachable(url, error)));
      request.end(body);
    });
}

async function* linesOf(response: IncomingMessage, url: string): AsyncIterable<string> {
  response.setEncoding("utf8");
  let rest = "";
  try {
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = `${rest}${chunk}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") yield line;
    }
  } catch (error) {
    throw unreachable(url, error);
  } finally {
    response.destroy();
  }
}

async function textOf(response: IncomingMessage, url: string): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  } catch (error) {
    throw unreachable(url, error);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(body: string, url: string): unknown {
  try {
    return JSON.parse(body) as unknown;
  } catch (error) {
    throw unreachable(url, new Error("what answers is not a holdfast agent", { cause: error }));
  }
}

function unreachable(url: string, cause: unknown): HoldfastError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  const reasons: Record<string, string> = {
    ECONNREFUSED: "nothing listens there",
    ENOENT: "there is no such socket",
    EACCES: "this user may not use the socket",
    ECONNRESET: "it ended the connection",
  };
  const why = reasons[code] ?? messageOf(cause);
  const message = `Cannot reach the agent at ${url}: ${why} (is it running? --url or --config names another)`;
  return new HoldfastError("ADMIN_UNREACHABLE", message, { cause });
}

/** The agent's own words (RFC 9457's `detail`), or the status where a stranger answers. */
function refusal(status: number, body: string): HoldfastError {
  let detail = `status ${status}`;
  try {
    const value = JSON.parse(body) as { detail?: unknown } | null;
    if (typeof value?.detail === "string") ({ detail } = value as { detail: string });
  } catch {
    // Not a problem of ours: the status says it all.
  }
  const hint = status === 401 ? " (give it with --token, HOLDFAST_ADMIN_TOKEN or --config)" : "";
  return new HoldfastError("ADMIN_REFUSED", `The agent refused: ${detail}${hint}`);
}

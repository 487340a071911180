/**
 * The way to a Valkey or Redis server: one server, a unix socket, TLS, Sentinel or Cluster, by iovalkey, whose door
 * this is. It is loaded when the first connection is opened (6 MiB).
 *
 * It reconnects by itself, with back-off and for ever. What is under way when a connection goes fails at once and what
 * is asked meanwhile is refused: the callers try again, since only they know what a repetition means.
 *
 * Errors are told apart here: a server that is away, loads, has lost its master or has no memory is `transient`; one
 * that does not let us in, or is not set up for what we ask, is for a person.
 */
import type { Cluster, Redis, RedisOptions } from "iovalkey";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { readTlsClient, type TlsClientSettings } from "../core/tls.ts";
import { parseAddress } from "./address.ts";

export interface ValkeyOptions {
  /**
   * `valkey://`, `valkeys://` (TLS), `redis://`, `rediss://` or `unix://`, with user, password and database where needed;
   * several, separated by commas, for a cluster or sentinels.
   */
  readonly url: string;
  /** `cluster`: the URLs are nodes of a cluster; `sentinel:NAME`: they are sentinels, which know the master NAME. */
  readonly mode?: "single" | "cluster" | `sentinel:${string}`;
  readonly tls?: Partial<TlsClientSettings>;
  /** In place of the URL's. */
  readonly username?: string;
  readonly password?: string;
  /** A server that does not answer for so long is taken for gone, ms; left out: 15,000. */
  readonly answerMs?: number;
}

/** Lua by name: what each caller's `script` may run. */
export type Scripts = Readonly<Record<string, string>>;
export type Argument = string | number | Uint8Array;
/** What the server answers: bytes, numbers, null, lists of those. */
export type Reply = Buffer | number | null | readonly Reply[];

/** Well beyond the longest blocking read (5 s). */
const defaultAnswerMs = 15_000;
/** The delay before a reconnection: doubled each time, from 50 ms to this, ms. */
const reconnectMaxMs = 2_000;

export class ValkeyConnection {
  readonly #options: ValkeyOptions;
  readonly #scripts: Scripts;
  #client: Redis | Cluster | undefined;
  #opening: Promise<void> | undefined;
  /** Why there is no connection at the moment. */
  #lastError = "no connection yet";
  /** How the server last refused to let us in. */
  #denial = "";
  #identity: Promise<number> | undefined;
  #isDatabaseRefused = false;

  constructor(options: ValkeyOptions, scripts: Scripts = {}) {
    this.#options = options;
    this.#scripts = scripts;
  }

  /** The addresses, without user and password. */
  get description(): string {
    return this.#options.url
      .split(",")
      .map((each) => each.trim().replace(/^(\w+:\/\/)[^@/]*@/, "$1"))
      .join(",");
  }

  /**
   * May be called twice: the second waits for the first. Once there was an answer it connects again by itself.
   * @throws HoldfastError when there is no answer, we are not let in, or the server is too old
   */
  open(): Promise<void> {
    return (this.#opening ??= this.#open());
  }

  async #open(): Promise<void> {
    this.#client = await this.#create();
    const client = this.#client;
    client.on("error", (error: Error) => this.#failed(error));
    client.on("node error", (error: Error) => this.#failed(error));
    client.on("ready", () => (this.#lastError = "no answer"));
    client.on("close", () => (this.#identity = undefined));
    for (const [name, lua] of Object.entries(this.#scripts)) client.defineCommand(name, { lua });
    try {
      await client.connect();
      await this.#checkServer();
    } catch (thrown) {
      const error = this.#translate(thrown);
      this.close();
      throw error;
    }
  }

  /** Calls `listener` each time that a connection ends; once it is open, until it is closed. */
  onEnd(listener: (reason: string) => void): void {
    const client = this.#client;
    client?.on("close", () => {
      if (this.#client === client) listener(this.#lastError);
    });
  }

  close(): void {
    this.#opening = undefined;
    this.#client?.disconnect();
    this.#client = undefined;
  }

  async #create(): Promise<Redis | Cluster> {
    const { Redis, Cluster } = await import("iovalkey");
    const { nodes, common } = this.#settings();
    const mode = this.#options.mode ?? "single";
    if (mode === "cluster") {
      return new Cluster(nodes, {
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: retryDelayMs,
        // What was under way when a node's connection went is not sent again behind the callers' backs.
        retryDelayOnFailover: 0,
        redisOptions: common,
        slotsRefreshTimeout: 2_000,
      });
    }
    const own = { lazyConnect: true, enableOfflineQueue: false, retryStrategy: retryDelayMs };
    if (mode.startsWith("sentinel:")) {
      return new Redis({
        ...common,
        ...own,
        sentinels: nodes as { host: string; port: number }[],
        name: mode.slice("sentinel:".length),
        sentinelRetryStrategy: retryDelayMs,
      });
    }
    return new Redis({ ...common, ...nodes[0], ...own });
  }

  async call(name: string, ...args: readonly Argument[]): Promise<Reply> {
    try {
      const reply = (await this.#ready().callBuffer(name, ...(args as string[]))) as Reply;
      this.#denial = "";
      return reply;
    } catch (thrown) {
      throw this.#translate(thrown);
    }
  }

  /** The server's number for this connection (not a cluster's, which are several), asked for once in its life. */
  identity(): Promise<number> {
    this.#identity ??= this.call("CLIENT", "ID").then(Number);
    return this.#identity;
  }

  /** Two commands in one round trip, the second after the first. */
  async pair(
    first: readonly [string, ...Argument[]],
    second: readonly [string, ...Argument[]],
  ): Promise<readonly [Reply, Reply]> {
    const [one, two] = await Promise.allSettled([this.call(...first), this.call(...second)]);
    if (one.status === "rejected") throw one.reason;
    if (two.status === "rejected") throw two.reason;
    return [one.value, two.value];
  }

  async script(name: string, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    try {
      const run = this.#ready() as unknown as Record<
        string,
        (...args: unknown[]) => Promise<Reply>
      >;
      const reply = await run[`${name}Buffer`]?.(keys.length, ...keys, ...args.map(asBuffer));
      this.#denial = "";
      return reply as Reply;
    } catch (thrown) {
      throw this.#translate(thrown);
    }
  }

  #ready(): Redis | Cluster {
    if (this.#client === undefined) throw unreachable(this.description, "it is closed");
    return this.#client;
  }

  #settings(): { nodes: RedisOptions[]; common: RedisOptions } {
    const { url, tls, username, password, answerMs = defaultAnswerMs } = this.#options;
    const parsed = url.split(",").map((each) => parseAddress(each.trim()));
    const first = parsed[0];
    const user = username ?? first?.username;
    const secret = password ?? first?.password;
    const common: RedisOptions = {
      ...(user !== undefined && { username: user }),
      ...(secret !== undefined && { password: secret }),
      ...(first?.db !== undefined && { db: first.db }),
      ...((first?.isTls === true || tls !== undefined) && {
        tls: readTlsClient({ verify: true, ...tls } as TlsClientSettings),
      }),
      // What was under way is not sent again behind the callers' backs.
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // A connection without an answer is given up for a new one; what waits for a connection, a little later.
      socketTimeout: answerMs,
      commandTimeout: answerMs + 1_000,
      connectTimeout: 5_000,
      keepAlive: 10_000,
      // A demoted master answers READONLY: the next connection asks for the new one.
      reconnectOnError: (error) => error.message.startsWith("READONLY"),
    };
    return { nodes: parsed.map(({ address }) => address), common };
  }

  #failed(error: Error): void {
    const { message } = error;
    // The client would go on in database 0.
    if (/DB index|SELECT/.test(message)) this.#isDatabaseRefused = true;
    const cause = (error as { lastNodeError?: Error }).lastNodeError;
    this.#lastError = cause === undefined ? message : messageOf(cause);
    if (isDenial(this.#lastError)) this.#denial = this.#lastError;
  }

  /** @throws HoldfastError STREAM_INVALID when the server lacks what we need */
  async #checkServer(): Promise<void> {
    if (this.#isDatabaseRefused) {
      const why = `Server ${this.description} has no such database: ${this.#lastError}`;
      throw new HoldfastError("STREAM_INVALID", why);
    }
    // A user who may not ask is believed.
    const info = await this.call("INFO", "server").catch((thrown: unknown) => {
      if (thrown instanceof HoldfastError && thrown.message.includes("NOPERM")) return null;
      throw thrown;
    });
    const version = /^(?:redis|valkey)_version:(\d+)\.(\d+)/m.exec(String(info));
    const [major, minor] = [Number(version?.[1]), Number(version?.[2])];
    if (version === null || major > 6 || (major === 6 && minor >= 2)) return;
    const why = `Server ${this.description} is version ${major}.${minor}: streams need Valkey, or Redis 6.2 or later`;
    throw new HoldfastError("STREAM_INVALID", why);
  }

  #translate(thrown: unknown): HoldfastError {
    if (thrown instanceof HoldfastError) return thrown;
    const message = withoutScript(messageOf(thrown));
    const at = this.description;
    const isConnection = !/^[A-Z]+ /.test(message);
    // A connection that is not let in ends with no word of that.
    const denial = isConnection ? this.#denial : isDenial(message) ? message : "";
    if (denial !== "") {
      const why = `Server ${at} does not let us in: ${denial}`;
      return new HoldfastError("STREAM_DENIED", why, { cause: thrown });
    }
    if (message.startsWith("CROSSSLOT") || message.includes("same slot")) {
      const why = `Cluster ${at} keeps the topic's keys on different nodes: give topics that go together one hash tag, such as {readings}`;
      return new HoldfastError("STREAM_INVALID", why, { cause: thrown });
    }
    if (message.startsWith("STREAMFULL"))
      return new HoldfastError("STREAM_FULL", message.slice(11));
    if (message.startsWith("WRONGTYPE")) {
      const why = `A key on ${at} holds something else than a stream: ${message}`;
      return new HoldfastError("STREAM_INVALID", why, { cause: thrown });
    }
    if (
      /^ERR (unknown (sub)?command|syntax error|This instance has cluster support)/i.test(message)
    ) {
      const why = `Server ${at} cannot do what streams need: ${message}`;
      return new HoldfastError("STREAM_INVALID", why, { cause: thrown });
    }
    if (isConnection) return unreachable(at, `${message} (${this.#lastError})`, thrown);
    // It answers: LOADING, READONLY, OOM, CLUSTERDOWN, MISCONF … all pass.
    return new HoldfastError("STREAM_UNREACHABLE", `Server ${at} cannot do this now: ${message}`, {
      cause: thrown,
    });
  }
}

/** NOGROUP and UNBLOCKED: the topic or the group was deleted, perhaps with all else (FLUSHALL). */
export function isGroupGone(thrown: unknown): boolean {
  return thrown instanceof HoldfastError && /\b(NOGROUP|UNBLOCKED)\b/.test(thrown.message);
}

function isDenial(message: string): boolean {
  return /^(NOAUTH|WRONGPASS|NOPERM|ERR AUTH|ERR invalid (password|user)|ERR The user executing the script)/i.test(
    message,
  );
}

/** Before version 7 a script's error is told with the script's name and line before it. */
function withoutScript(message: string): string {
  const inner = /^ERR Error running script.*?: -?([A-Z]{2,} .*)$/s.exec(message);
  return inner?.[1] ?? message;
}

function unreachable(at: string, why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("STREAM_UNREACHABLE", `Server ${at} does not answer: ${why}`, { cause });
}

/** The client writes Buffers as they are, and what else is an array of bytes as its text. */
function asBuffer(value: Argument): string | number | Buffer {
  if (!(value instanceof Uint8Array) || Buffer.isBuffer(value)) return value;
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function retryDelayMs(times: number): number {
  return Math.min(reconnectMaxMs, 50 * 2 ** Math.min(times - 1, 10));
}

/**
 * The agent's own Valkey (or Redis) server: a child process on a unix socket, in memory only, since the journal is the
 * durable copy.
 *
 *   start ──► end a stale one ──► spawn ──► record it ──► it takes connections ──► running
 *                                   ▲                                                │ ends by itself
 *                                   └──────────── pause, doubled up to 30 s ◄────────┘
 *
 * It ends with the agent: by `stop`; and where the agent is killed, by the kernel (`setpriv --pdeathsig`, of every
 * Debian), else by the next start, which finds its record beside the socket. A process is only ever ended when it is
 * the recorded one: same number, same start, same boot, and our socket in its arguments. What the stale one held is
 * projected again, under the same IDs.
 *
 * The server evicts nothing (`noeviction`): a stream that lost entries behind our back could not be trusted; the plane
 * trims. Bounds: `maxBytes` of its memory, 4 KiB of its output kept, one process.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import {
  commandLine,
  findProgram,
  findServer,
  isAlive,
  processMark,
  type ProcessMark,
} from "./server-program.ts";
import type { OwnServer } from "./switching.ts";

export interface EmbeddedValkeyParts {
  readonly context: Context;
  readonly socket: string;
  readonly maxBytes: number;
}

/** What lies beside the socket while a server runs. */
interface ServerRecord {
  readonly boot: string;
  readonly server: ProcessMark;
  readonly agent: ProcessMark;
}

/** unix(7): `sun_path` has 108 bytes, one of them its end. */
const socketPathMax = 107;
/** A server that has run for so long begins with the first pause again, ms. */
const steadyMs = 10_000;
const restartPace = { baseMs: 100, maxMs: 30_000 };
/** For SIGTERM; it has nothing to save. Then SIGKILL, ms. */
const endMs = 1_000;
const lookMs = 20;
const outputMax = 4_096;

export class EmbeddedValkey implements OwnServer {
  readonly #parts: EmbeddedValkeyParts;
  readonly #stopping = new AbortController();
  #child: ChildProcess | undefined;
  #output = "";
  #startedMs = 0;
  #failures = 0;
  #restarts = 0;
  #reviving: Promise<void> | undefined;

  constructor(parts: EmbeddedValkeyParts) {
    this.#parts = parts;
  }

  get url(): string {
    return `unix://${this.#parts.socket.split("/").map(encodeURIComponent).join("/")}`;
  }

  /** Of the server; null: none runs. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /** @throws HoldfastError PLANE_UNAVAILABLE */
  async start(): Promise<void> {
    if (this.#child === undefined && this.#reviving === undefined) await this.#launch();
    await this.#takesConnections();
  }

  restart(): void {
    if (this.#child === undefined) return;
    this.#parts.context.log.warn("The plane's server does not answer: it is started again");
    this.#child.kill("SIGKILL");
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#reviving;
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    child.kill("SIGTERM");
    await this.#endOf(child.pid ?? 0, () => child.kill("SIGKILL"));
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    for (const file of [this.#parts.socket, this.#record()]) rmSync(file, { force: true });
  }

  async #launch(): Promise<void> {
    const { socket, context } = this.#parts;
    const program = findServer();
    if (program === null) {
      throw unavailable("there is no valkey-server or redis-server on PATH");
    }
    if (Buffer.byteLength(socket) > socketPathMax) {
      throw unavailable(`path ${socket} is longer than a socket's may be (${socketPathMax} bytes)`);
    }
    try {
      mkdirSync(dirname(socket), { recursive: true, mode: 0o700 });
    } catch (cause) {
      throw unavailable(messageOf(cause), cause);
    }
    await this.#endStale();
    if (this.#stopping.signal.aborted) throw unavailable("the agent stops");
    this.#spawn(program);
    context.log.debug("The plane's server was started", { program, pid: this.#child?.pid });
  }

  #spawn(program: string): void {
    const { context, socket } = this.#parts;
    const setpriv = findProgram("setpriv");
    const guard = setpriv === null ? [] : [setpriv, "--pdeathsig", "KILL"];
    const [command = program, ...args] = [...guard, program, ...this.#arguments()];
    // A group of its own: Ctrl-C is for the agent, which ends it last. Our environment may hold secrets.
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: {},
    });
    this.#child = child;
    this.#output = "";
    this.#startedMs = context.clock.monotonicMs();
    const keep = (data: Buffer): void => {
      this.#output = (this.#output + data.toString()).slice(-outputMax);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    child.once("error", (error) => this.#ended(child, messageOf(error)));
    child.once("exit", (code, signal) => this.#ended(child, `it ended with ${signal ?? code}`));
    const [server, agent] = [processMark(child.pid ?? 0), processMark(process.pid)];
    if (server === null || agent === null) return;
    const record: ServerRecord = { boot: context.clock.bootId, server, agent };
    try {
      writeFileSync(`${this.#record()}.new`, JSON.stringify(record), { mode: 0o600 });
      renameSync(`${this.#record()}.new`, this.#record());
    } catch (thrown) {
      context.log.warn(`Cannot record the plane's server at ${socket}: ${messageOf(thrown)}`);
    }
  }

  #arguments(): string[] {
    const { socket, maxBytes } = this.#parts;
    const text =
      "--port 0 --unixsocketperm 660 --daemonize no --databases 1 --appendonly no " +
      // Arguments stay as they are in /proc: they tell whose it is.
      "--set-proc-title no --loglevel warning --maxmemory-policy noeviction";
    const words = text.split(" ");
    words.push("--save", "", "--logfile", "", "--maxmemory", `${maxBytes}`);
    words.push("--unixsocket", socket, "--dir", dirname(socket));
    return words;
  }

  #ended(child: ChildProcess, why: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    const { context } = this.#parts;
    const isSteady = context.clock.monotonicMs() - this.#startedMs >= steadyMs;
    this.#failures = isSteady ? 1 : this.#failures + 1;
    context.log.warn(`The plane's server is started again: ${why}`, { output: this.#lastLine() });
    this.#reviving = this.#revive();
  }

  async #revive(): Promise<void> {
    const { context } = this.#parts;
    const { signal } = this.#stopping;
    while (!signal.aborted && this.#child === undefined) {
      const delayMs = backoffDelayMs(restartPace, this.#failures, context.random());
      await context.clock.sleep(delayMs, signal).catch(() => undefined);
      if (signal.aborted) break;
      this.#restarts += 1;
      await this.#launch().catch((thrown: unknown) => {
        this.#failures += 1;
        context.log.warn(messageOf(thrown));
      });
    }
    this.#reviving = undefined;
  }

  /** Ends what an agent that was killed has left; leaves alone what it cannot be sure of. */
  async #endStale(): Promise<void> {
    const { context, socket } = this.#parts;
    const record = this.#readRecord();
    if (record === null || record.boot !== context.clock.bootId) return;
    const { server, agent } = record;
    if (!isAlive(server) || !commandLine(server.pid).includes(socket)) return;
    if (agent.pid !== process.pid && isAlive(agent)) {
      throw unavailable(`agent ${agent.pid} has its server at ${socket}`);
    }
    context.log.info("A server that an earlier agent left is ended", { pid: server.pid });
    signalTo(server, "SIGTERM");
    await this.#endOf(server.pid, () => signalTo(server, "SIGKILL"));
  }

  /** Until a process is gone; `force` after a while. */
  async #endOf(pid: number, force: () => void): Promise<void> {
    const { clock } = this.#parts.context;
    const mark = processMark(pid);
    if (mark === null) return;
    const untilMs = clock.monotonicMs() + endMs;
    while (isAlive(mark) && clock.monotonicMs() < untilMs) await clock.sleep(lookMs);
    force();
    while (isAlive(mark)) await clock.sleep(lookMs);
  }

  async #takesConnections(): Promise<void> {
    const { context, socket } = this.#parts;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      if (this.#child === undefined) {
        throw unavailable(this.#lastLine() || "the server ended as soon as it was started");
      }
      if (await answers(socket)) return;
      await context.clock.sleep(lookMs, signal).catch(() => undefined);
    }
    throw unavailable("the agent stops");
  }

  #readRecord(): ServerRecord | null {
    try {
      const record = JSON.parse(readFileSync(this.#record(), "utf8")) as Partial<ServerRecord>;
      const { boot, server, agent } = record;
      if (boot === undefined || server === undefined || agent === undefined) return null;
      return { boot, server, agent };
    } catch {
      return null;
    }
  }

  #record(): string {
    return `${this.#parts.socket}.json`;
  }

  #lastLine(): string {
    return this.#output.trim().split("\n").at(-1) ?? "";
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    const end = (isUp: boolean): void => {
      connection.destroy();
      resolve(isUp);
    };
    connection.once("connect", () => end(true));
    connection.once("error", () => end(false));
  });
}

function signalTo(mark: ProcessMark, signal: NodeJS.Signals): void {
  try {
    if (isAlive(mark)) process.kill(mark.pid, signal);
  } catch {
    // It has ended meanwhile, or is another user's: then the socket cannot be ours either.
  }
}

function unavailable(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("PLANE_UNAVAILABLE", `Cannot start a server for the plane: ${why}`, {
    cause,
  });
}

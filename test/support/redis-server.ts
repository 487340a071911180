/** A real redis-server (or valkey-server, where there is one), ended by its pid. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { freePort, requireProgram } from "./mosquitto.ts";
import { endProcess } from "./end-process.ts";
import { until } from "./until.ts";

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly socket: string;
  pid(): number;
  log(): string;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** Starts again on the same port, with what its append-only file holds. */
  start(): Promise<void>;
  /** Runs a command by its command-line client; gives what that prints. */
  cli(...args: readonly string[]): string;
}

export interface RedisServerOptions {
  /** Each answer is on disk before it is given. */
  readonly durable?: boolean;
  readonly args?: readonly string[];
  readonly port?: number;
  readonly program?: string;
}

export async function startRedis(
  folder: string,
  options: RedisServerOptions = {},
): Promise<RedisServer> {
  const program = options.program ?? serverProgram();
  const port = options.port ?? (await freePort());
  const dir = join(folder, `redis-${port}`);
  mkdirSync(dir, { recursive: true });
  const socket = join(dir, "server.sock");
  const persistence =
    options.durable === true ? ["--appendonly", "yes", "--appendfsync", "always"] : [];
  const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", dir, "--save", ""];
  let child: ChildProcess | undefined;
  let output = "";
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    child = undefined;
    await endProcess(running, signal);
  };
  const server: RedisServer = {
    port,
    url: `redis://127.0.0.1:${port}`,
    socket,
    pid: () => child?.pid ?? 0,
    log: () => output,
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    async start() {
      const all = [...args, "--unixsocket", socket, ...persistence, ...(options.args ?? [])];
      child = spawn(program, all, { stdio: ["ignore", "pipe", "pipe"] });
      child.stdout?.on("data", (data: Buffer) => (output += data.toString()));
      child.stderr?.on("data", (data: Buffer) => (output += data.toString()));
      const started = child;
      await until(program, () => {
        if (started.exitCode !== null) throw new Error(`${program} has ended\n${output}`);
        return answers(port);
      });
    },
    cli(...words) {
      const result = spawnSync("redis-cli", ["-p", `${port}`, ...words], { encoding: "utf8" });
      return result.stdout.trim();
    },
  };
  await server.start();
  return server;
}

/** valkey-server where there is one, else redis-server. */
export function serverProgram(): string {
  if (spawnSync("sh", ["-c", "command -v valkey-server"]).status === 0) return "valkey-server";
  requireProgram("redis-server", "redis-server");
  return "redis-server";
}

export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (isUp: boolean): void => {
      socket.destroy();
      resolve(isUp);
    };
    socket.once("connect", () => socket.write("PING\r\n"));
    // While it loads its file it answers, but not to this.
    socket.once("data", (data) => end(data.toString().startsWith("+PONG")));
    socket.once("error", () => end(false));
  });
}

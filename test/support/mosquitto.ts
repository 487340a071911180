/** A real mosquitto on a free loopback port, ended by its pid. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { until } from "./until.ts";

export interface Mosquitto {
  readonly port: number;
  readonly url: string;
  readonly log: () => string;
  pid(): number;
  /** SIGKILL: what it held in memory is gone. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** Starts again on the same port. */
  start(): Promise<void>;
}

/** Fails with the command that installs it. `config` is added to the configuration file. */
export async function startMosquitto(
  folder: string,
  config = "",
  port?: number,
): Promise<Mosquitto> {
  requireProgram("mosquitto", "mosquitto mosquitto-clients");
  const chosen = port ?? (await freePort());
  const file = join(folder, `mosquitto-${chosen}.conf`);
  const own = config.includes("listener ")
    ? ""
    : `listener ${chosen} 127.0.0.1\nallow_anonymous true\n`;
  writeFileSync(file, `${own}max_queued_messages 0\nuser root\n${config}\n`);
  let child: ChildProcess | undefined;
  let output = "";
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    child = undefined;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    running.kill(signal);
    await once(running, "exit");
  };
  const broker: Mosquitto = {
    port: chosen,
    url: `mqtt://127.0.0.1:${chosen}`,
    log: () => output,
    pid: () => child?.pid ?? 0,
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    async start() {
      child = spawn("mosquitto", ["-c", file], { stdio: ["ignore", "pipe", "pipe"] });
      child.stdout?.on("data", (data: Buffer) => (output += data.toString()));
      child.stderr?.on("data", (data: Buffer) => (output += data.toString()));
      const started = child;
      await until("mosquitto", () => {
        if (started.exitCode !== null) throw new Error(`mosquitto has ended\n${output}`);
        return answers(chosen);
      });
    },
  };
  await broker.start();
  return broker;
}

/** Throws with the command that installs a missing program: a test never skips itself. */
export function requireProgram(program: string, packages: string): void {
  if (spawnSync("sh", ["-c", `command -v ${program}`]).status === 0) return;
  throw new Error(`${program} is not installed: apt-get install -y ${packages}`);
}

/** Ports that the kernel gives to nobody's outgoing connection: one that is restarted on its port finds it free. */
const ports = { first: 10_000, count: 22_000 };
/** Test files that run beside each other begin far apart. */
let nextPort = (process.pid * 97) % ports.count;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = ports.first + nextPort;
    nextPort = (nextPort + 1) % ports.count;
    if (await canListen(port)) return port;
  }
}

function canListen(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

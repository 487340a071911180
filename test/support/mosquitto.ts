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
      await until(`mosquitto on port ${chosen}\n${output}`, () => answers(chosen));
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

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("No port was given");
  return address.port;
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

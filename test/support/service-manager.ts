/** What a service manager hears from us: its end of $NOTIFY_SOCKET, which Node cannot be. */
import { execFileSync, spawn } from "node:child_process";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { requireProgram } from "./mosquitto.ts";
import { until } from "./until.ts";

export interface ServiceManager {
  readonly socket: string;
  /** Each message, whole. */
  heard(): string[];
  hears(message: string): Promise<void>;
}

export async function serviceManager(t: TestContext, folder: string): Promise<ServiceManager> {
  requireProgram("cc", "gcc libc6-dev");
  const [program, socket] = [join(folder, "notify-socket"), join(folder, "notify")];
  execFileSync("cc", ["-o", program, "test/support/notify-socket.c"]);
  const child = spawn(program, [socket], { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  t.after(() => void child.kill("SIGKILL"));
  const heard = (): string[] => output.split("\n\n").slice(0, -1);
  const hears = (message: string): Promise<void> =>
    until(`the message ${message}`, () => heard().some((one) => one.includes(message)), 30_000);
  await hears("listening");
  return { socket, heard, hears };
}

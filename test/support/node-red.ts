/** A real Node-RED without its editor, ended by its pid. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endProcess } from "./end-process.ts";
import { freePort } from "./mosquitto.ts";
import { until } from "./until.ts";

export const nodeRedVersion = "5.0.7";
/** Beside the project's packages and not among them: it brings 240 packages and 116 MiB, for one table. */
const home = join("node_modules", ".cache", "holdfast", `node-red-${nodeRedVersion}`);
const program = join(home, "node_modules", "node-red", "red.js");

export interface NodeRed {
  pid(): number;
  /** Resolves when its flow runs and its broker has it. */
  start(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Installs it where it is missing. Without install scripts: what they build is not used here. */
export function installNodeRed(): void {
  if (existsSync(program)) return;
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, "package.json"), '{ "private": true }\n');
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"];
  const { status, stderr } = spawnSync(
    "npm",
    ["install", ...flags, "--save-exact", `node-red@${nodeRedVersion}`],
    { cwd: home, encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`Cannot install Node-RED: npm ended with ${status}\n${stderr}`);
}

export async function nodeRed(folder: string, flow: readonly unknown[]): Promise<NodeRed> {
  const port = await freePort();
  const settings = {
    uiHost: "127.0.0.1",
    uiPort: port,
    httpAdminRoot: false,
    httpNodeRoot: false,
    flowFile: "flow.json",
    credentialSecret: false,
    telemetry: { enabled: false },
    logging: { console: { level: "info", metrics: false, audit: false } },
  };
  writeFileSync(
    join(folder, "settings.js"),
    `module.exports = ${JSON.stringify(settings, null, 2)};\n`,
  );
  writeFileSync(join(folder, "flow.json"), JSON.stringify(flow, null, 2));
  let child: ChildProcess | undefined;
  return {
    pid: () => child?.pid ?? 0,
    async start() {
      const files = ["--userDir", folder, "--settings", join(folder, "settings.js")];
      const started = spawn(process.execPath, [program, ...files], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      child = started;
      let output = "";
      const keep = (data: Buffer): void => {
        output = (output + data.toString()).slice(-100_000);
      };
      started.stdout.on("data", keep);
      started.stderr.on("data", keep);
      await until("Node-RED", () => {
        if (started.exitCode === null) return output.includes("Connected to broker");
        throw new Error(`Node-RED ended with ${started.exitCode}\n${output}`);
      });
    },
    kill: () => endProcess(child, "SIGKILL"),
  };
}

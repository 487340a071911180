/** The agent as a user runs it: a process of its own, with a configuration file, ended by its pid. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./mosquitto.ts";
import { until } from "./until.ts";

export interface ChildAgent {
  readonly httpUrl: string;
  readonly adminUrl: string;
  readonly configFile: string;
  output(): string;
  pid(): number;
  start(): Promise<void>;
  /** SIGKILL, and wait until it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with the exit code and how long it took, ms. */
  stop(): Promise<{ code: number | null; tookMs: number }>;
  health(): Promise<HealthAnswer>;
  metrics(): Promise<string>;
  /** Resident set, KiB, from /proc. */
  rssKiB(): number;
}

/** `npm start` says how the agent is run; the tests run it so. */
const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as {
  scripts: { start: string };
};
const nodeFlags = scripts.start.match(/--\S+/g) ?? [];
const startEnvironment = Object.fromEntries(
  [...scripts.start.matchAll(/^(\w+)=(\S+)/g)].map(([, name = "", value = ""]) => [name, value]),
);

export interface HealthAnswer {
  readonly status: string;
  readonly components: Record<
    string,
    Record<string, unknown> & { status: string; detail?: string }
  >;
}

/** `yaml` without `http`, `admin` and `journal.path`, which are added here; without `plane` it is memory. */
export async function childAgent(
  folder: string,
  yaml: string,
  options: {
    journal?: string;
    program?: readonly string[];
    configFolder?: string;
    /** Where its standard output and error go, as a supervisor would have it; `output` reads it. */
    logFile?: string;
    /** A command that runs it, and becomes it. */
    within?: readonly string[];
    /** Beside this process's own environment. */
    env?: Readonly<Record<string, string>>;
  } = {},
): Promise<ChildAgent> {
  const [http, admin] = [await freePort(), await freePort()];
  const configFile = join(options.configFolder ?? folder, "agent.yaml");
  const journal = `journal:\n  path: ${join(folder, "journal.db")}\n${options.journal ?? ""}\n`;
  const listens = `http: { listen: 127.0.0.1:${http} }\nadmin: { listen: 127.0.0.1:${admin} }\n`;
  // A server beside each agent would cost what it is not there to show: who tests the plane says so.
  const plane = /^plane:/m.test(yaml) ? "" : "plane: { kind: memory }\n";
  writeFileSync(configFile, `${journal}${listens}${plane}${yaml}`);
  let child: ChildProcess | undefined;
  let output = "";
  const httpUrl = `http://127.0.0.1:${http}`;
  const agent: ChildAgent = {
    httpUrl,
    adminUrl: `http://127.0.0.1:${admin}`,
    configFile,
    output: () => (options.logFile === undefined ? output : readFileSync(options.logFile, "utf8")),
    pid: () => child?.pid ?? 0,
    async start() {
      const log = options.logFile === undefined ? "pipe" : openSync(options.logFile, "a");
      const program = options.program ?? ["src/main.ts", "run", "--config"];
      const [command, ...args] = [
        ...(options.within ?? []),
        process.execPath,
        ...nodeFlags,
        ...program,
        configFile,
      ];
      const started = spawn(command, args, {
        stdio: ["ignore", log, log],
        env: { ...process.env, ...startEnvironment, ...options.env },
      });
      child = started;
      const keep = (data: Buffer): void => {
        output = (output + data.toString()).slice(-200_000);
      };
      if (typeof log === "number") closeSync(log);
      started.stdout?.on("data", keep);
      started.stderr?.on("data", keep);
      await until(`the agent to be ready`, async () => {
        const ended = started.exitCode ?? started.signalCode;
        if (ended !== null) throw new Error(`The agent ended: ${ended}\n${output}`);
        return (await fetch(`${httpUrl}/ready`).catch(() => null))?.ok ?? false;
      });
    },
    async kill() {
      await end(child, "SIGKILL");
    },
    async stop() {
      const before = performance.now();
      await end(child, "SIGTERM");
      return { code: child?.exitCode ?? null, tookMs: performance.now() - before };
    },
    health: async () => (await (await fetch(`${httpUrl}/health`)).json()) as HealthAnswer,
    metrics: async () => (await fetch(`${httpUrl}/metrics`)).text(),
    rssKiB() {
      const status = readFileSync(`/proc/${child?.pid ?? 0}/status`, "utf8");
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
    },
  };
  return agent;
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
}

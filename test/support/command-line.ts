/** `holdfast` as a user types it: a process of its own, ended with the test. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import type { TestContext } from "node:test";
import { until } from "./until.ts";

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
  readonly tookMs: number;
}

export interface Running {
  readonly pid: number;
  out(): string;
  err(): string;
  send(signal: NodeJS.Signals): void;
  /** Waits until standard output has it. */
  shows(words: string | RegExp): Promise<void>;
  readonly ended: Promise<Ended>;
}

interface Surroundings {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

const program = resolve("src/main.ts");

export function startHoldfast(
  t: TestContext,
  args: readonly string[],
  { env, cwd }: Surroundings = {},
): Running {
  const began = performance.now();
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_COMPILE_CACHE: resolve("node_modules/.cache/holdfast"), ...env },
    ...(cwd !== undefined && { cwd }),
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  const ended = once(child, "close").then(([code, signal]): Ended => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
    out,
    err,
    tookMs: performance.now() - began,
  }));
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await ended;
  });
  return {
    pid: child.pid ?? 0,
    out: () => out,
    err: () => err,
    send: (signal) => void child.kill(signal),
    async shows(words) {
      const isThere = (): boolean =>
        typeof words === "string" ? out.includes(words) : words.test(out);
      await until(`${words} on standard output`, () => {
        if (child.exitCode !== null && !isThere()) {
          throw new Error(`It ended with ${child.exitCode} without ${words}\n${out}\n${err}`);
        }
        return isThere();
      });
    },
    ended,
  };
}

export function holdfast(
  t: TestContext,
  args: readonly string[],
  surroundings: Surroundings = {},
): Promise<Ended> {
  return startHoldfast(t, args, surroundings).ended;
}

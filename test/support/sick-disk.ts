/** Makes the disk of a running agent's journal sick, by strace's fault injection on the one thread that owns the file. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { requireProgram } from "./mosquitto.ts";
import { until } from "./until.ts";

/** Of all threads the writer's has written most: to the WAL and the file. */
function writerOf(pid: number): string {
  const written = readdirSync(`/proc/${pid}/task`).map((thread) => {
    const io = readFileSync(`/proc/${pid}/task/${thread}/io`, "utf8");
    return { thread, bytes: Number(/write_bytes: (\d+)/.exec(io)?.[1] ?? 0) };
  });
  const most = written.toSorted((a, b) => b.bytes - a.bytes)[0];
  assert.ok(most !== undefined && most.bytes > 0, "Nothing was written yet");
  return most.thread;
}

/** `fault` as strace has it: `fsync:delay_exit=2000000`. Resolves, once it holds, with what ends it. */
export async function sicken(
  test: TestContext,
  pid: number,
  ...faults: readonly string[]
): Promise<() => Promise<void>> {
  requireProgram("strace", "strace");
  const calls = faults.map((fault) => fault.slice(0, fault.indexOf(":"))).join(",");
  const injected = faults.flatMap((fault) => ["-e", `inject=${fault}`]);
  const args = ["-p", writerOf(pid), "-e", `trace=${calls}`, ...injected];
  const strace = spawn("strace", args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  strace.stderr.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-10_000)));
  test.after(() => strace.kill());
  await until("strace to be attached", () => said.includes("attached"));
  return async () => {
    assert.match(said, /INJECTED|DELAYED/, "The disk was never sick");
    if (strace.exitCode !== null) return;
    strace.kill();
    await once(strace, "exit");
  };
}

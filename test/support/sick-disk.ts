/** Makes the disk of a running agent's journal sick, by strace's fault injection on the one thread that owns the file. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { requireProgram } from "./mosquitto.ts";
import { until } from "./until.ts";

/** The journal's thread. */
function writerOf(pid: number): string {
  const thread = readdirSync(`/proc/${pid}/task`).find(
    (id) => readFileSync(`/proc/${pid}/task/${id}/comm`, "utf8").trim() === "journal",
  );
  assert.ok(thread !== undefined, `No thread of ${pid} is called journal`);
  return thread;
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
  let wasSick = false;
  strace.stderr.on("data", (data: Buffer) => {
    said = (said + data.toString()).slice(-10_000);
    wasSick ||= /INJECTED|DELAYED/.test(said);
  });
  test.after(() => strace.kill());
  await until("strace to be attached", () => said.includes("attached"));
  return async () => {
    assert.ok(wasSick, "The disk was never sick");
    if (strace.exitCode !== null) return;
    strace.kill();
    await once(strace, "exit");
  };
}

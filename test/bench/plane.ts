/**
 * What a plane costs: filling it and reading it for one processor, in this process; then a whole agent with a processor
 * on memory and on its own server, for messages a second, CPU and memory.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { MemoryPlane } from "../../src/plane/memory.ts";
import type { Plane } from "../../src/plane/plane.ts";
import { ValkeyPlane } from "../../src/plane/valkey.ts";
import { childAgent } from "../support/child-agent.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { startRedis } from "../support/redis-server.ts";
import { storedEvent, testEpoch } from "../support/stored-event.ts";
import { cpuSecondsOf } from "../support/cpu-seconds.ts";
import { until } from "../support/until.ts";

const count = 200_000;
const page = 1_024;
const messages = 100_000;

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const server = await startRedis(folder);
  try {
    const maxBytes = 64 * 1024 * 1024;
    const there = new ValkeyPlane({
      url: `unix://${server.socket}`,
      device: "d",
      epoch: testEpoch,
      maxBytes,
    });
    print(`${count} events of 90 bytes, pages of ${page}, read by one group in batches of 500`);
    print("\n| plane | what | events/s | CPU µs each here | CPU µs each in the server |");
    print("| --- | --- | ---: | ---: | ---: |");
    await through("memory", new MemoryPlane(), () => 0);
    await through("valkey", there, () => cpuSeconds(server.pid()));
    print(
      `\nServer: ${server.cli("INFO", "memory").split("\n")[1] ?? ""}, ${server.cli("XLEN", "readings")} entries kept of a budget of ${maxBytes / 2} bytes`,
    );
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  print(
    `\n${messages} messages of 90 bytes at QoS 1 into the embedded broker, one processor with a filter`,
  );
  print(
    "\n| plane | messages/s | CPU µs each | RSS MiB idle | RSS MiB after | server's CPU µs each | server's PSS MiB idle | after |",
  );
  print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  for (const kind of ["memory", "valkey"]) await throughAgent(kind);
}

async function through(name: string, plane: Plane, serverCpu: () => number): Promise<void> {
  await plane.open();
  await plane.resume("readings", 0);
  await plane.attach("readings", "g", 0);
  const spent = { fill: [0, 0, 0], read: [0, 0, 0] };
  const measured = async (what: "fill" | "read", work: () => Promise<void>): Promise<void> => {
    const [began, cpu, theirs] = [performance.now(), process.cpuUsage(), serverCpu()];
    await work();
    const { user, system } = process.cpuUsage(cpu);
    const sums = spent[what];
    sums[0] = (sums[0] ?? 0) + performance.now() - began;
    sums[1] = (sums[1] ?? 0) + user + system;
    sums[2] = (sums[2] ?? 0) + (serverCpu() - theirs) * 1e6;
  };
  const signal = new AbortController().signal;
  let read = 0;
  for (let first = 1; first <= count; first += page) {
    const events = Array.from({ length: page }, (_, n) => reading(first + n));
    await measured("fill", () => plane.append("readings", events));
    await measured("read", async () => {
      for (;;) {
        const found = await plane.read("readings", "g", 500, 0, signal);
        if (found === "behind") throw new Error("Behind");
        if (found.length === 0) return;
        read += found.length;
        await plane.acknowledge("readings", "g", read);
      }
    });
  }
  for (const [what, [ms = 0, cpu = 0, theirs = 0]] of Object.entries(spent)) {
    print(
      `| ${name} | ${what} | ${Math.round((read / ms) * 1000).toLocaleString("en")} | ${(cpu / read).toFixed(2)} | ${(theirs / read).toFixed(2)} |`,
    );
  }
  await plane.close();
}

function reading(seq: number) {
  const payload = Buffer.from(
    `{"n":${String(seq).padStart(8, "1")},"device":"d1","temperature":${(15 + (seq % 200) / 10).toFixed(1)},"humidity":45.5,"note":"xxxxxxxx"}`,
  );
  return storedEvent({ seq, payload, key: "d1", headers: { topic: "load/d1" } });
}

async function throughAgent(kind: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
plane: { kind: ${kind} }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
processors:
  warm: { from: load, steps: [{ filter: "payload.temperature >= 15.0" }], to: warm }
`,
    { env: { RUNTIME_DIRECTORY: "", XDG_RUNTIME_DIR: "" } },
  );
  try {
    await agent.start();
    await delay(1_000);
    const pid = Number((await agent.health()).components["plane"]?.["pid"] ?? 0);
    const idle = { rss: agent.rssKiB() / 1024, pss: pssMiB(pid) };
    const [began, cpu, theirs] = [performance.now(), cpuSeconds(agent.pid()), cpuSeconds(pid)];
    const publisher = startPublisher({
      url: `mqtt://127.0.0.1:${port}`,
      topic: "load/d1",
      count: messages,
      qos: 1,
      window: 2_000,
    });
    await publisher.done;
    await until("all to be processed", async () => {
      await delay(20);
      return (await agent.metrics()).includes('stream_lag{stream="load",group="warm"} 0');
    });
    const seconds = (performance.now() - began) / 1000;
    const each = (spent: number): string => ((spent * 1e6) / messages).toFixed(1);
    print(
      `| ${kind} | ${Math.round(messages / seconds).toLocaleString("en")} | ${each(cpuSeconds(agent.pid()) - cpu)} | ${idle.rss.toFixed(1)} | ${(agent.rssKiB() / 1024).toFixed(1)} | ${each(cpuSeconds(pid) - theirs)} | ${idle.pss.toFixed(1)} | ${pssMiB(pid).toFixed(1)} |`,
    );
  } finally {
    await agent.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

function cpuSeconds(pid: number): number {
  return pid === 0 ? 0 : cpuSecondsOf(pid);
}

function pssMiB(pid: number): number {
  if (pid === 0) return 0;
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? 0) / 1024;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

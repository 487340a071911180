/**
 * Who takes messages from one broker to another, QoS 1 in and out, in turn on the same machine: the agent, Node-RED and
 * mosquitto's own bridge. How fast, at what cost, and how many are missing when it is killed amid them.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { childAgent } from "./child-agent.ts";
import { cpuSecondsOf } from "./cpu-seconds.ts";
import { endProcess } from "./end-process.ts";
import { requireProgram, startMosquitto, type Mosquitto } from "./mosquitto.ts";
import { forwardFlow } from "./node-red-flow.ts";
import { nodeRed } from "./node-red.ts";
import { startPublisher } from "./publishing.ts";
import { until } from "./until.ts";

interface Forwarder {
  start(): Promise<void>;
  kill(): Promise<void>;
  pid(): number;
}

type Make = (folder: string, from: Mosquitto, to: Mosquitto) => Promise<Forwarder>;

export const forwarders: Readonly<Record<string, Make>> = {
  holdfast: (folder, { url }, to) =>
    childAgent(
      folder,
      `
sources:
  load: { type: mqtt, url: "${url}", topics: ["load/#"], qos: 1, stream: load }
sinks:
  out: { type: mqtt, url: "${to.url}", topic: "{topic}", qos: 1, window: 1000, from: [load] }
`,
    ),
  "Node-RED": (folder, from, to) => nodeRed(folder, forwardFlow(from.port, to.port)),
  /** A broker of its own with a bridge to either side, as it stands on a device; safe as its options make it. */
  "mosquitto's bridge": async (folder, from, to) => {
    const bridge = (name: string, port: number, direction: string): string =>
      `connection ${name}\naddress 127.0.0.1:${port}\ntopic load/# ${direction} 1\ncleansession false\nrestart_timeout 1\n`;
    const kept = `persistence true\npersistence_location ${folder}/\nautosave_interval 1\nautosave_on_changes true\nmax_inflight_messages 1000\n`;
    const broker = await startMosquitto(
      folder,
      `${kept}${bridge("from", from.port, "in")}${bridge("to", to.port, "out")}`,
    );
    // It is started by whoever measures.
    await broker.kill();
    return broker;
  },
};

export interface Forwarding {
  readonly perSecond: number;
  readonly cpuMicros: number;
}

export function forwarding(name: string, count: number): Promise<Forwarding> {
  return within(name, async ({ forwarder, from, arrived }) => {
    const cpu = cpuSecondsOf(forwarder.pid());
    const began = performance.now();
    const load = { url: from.url, topic: "load/d1", qos: 1, window: 1000, count } as const;
    const publisher = startPublisher(load);
    await publisher.done;
    await until("all to have arrived", () => arrived().size === count, 300_000);
    const seconds = (performance.now() - began) / 1000;
    const used = cpuSecondsOf(forwarder.pid()) - cpu;
    return { perSecond: count / seconds, cpuMicros: (used * 1e6) / count };
  });
}

/** How many of `count` never arrive when it is killed amid them and started again. */
export function lostInKill(name: string, count: number, rate: number): Promise<number> {
  return within(name, async ({ forwarder, from, arrived }) => {
    const load = { url: from.url, topic: "load/d1", qos: 1, window: 1000, count, rate } as const;
    const publisher = startPublisher(load);
    await until("half of them", () => publisher.acknowledged() >= count / 2);
    await forwarder.kill();
    await forwarder.start();
    await publisher.done;
    let [seen, sinceMs] = [0, performance.now()];
    await until(
      "all, or silence",
      () => {
        const { size } = arrived();
        if (size !== seen) [seen, sinceMs] = [size, performance.now()];
        return size === count || performance.now() - sinceMs > 15_000;
      },
      300_000,
    );
    return count - arrived().size;
  });
}

interface Setup {
  readonly forwarder: Forwarder;
  readonly from: Mosquitto;
  /** The numbers of the messages that came out. */
  readonly arrived: () => ReadonlySet<number>;
}

async function within<T>(name: string, act: (setup: Setup) => Promise<T>): Promise<T> {
  requireProgram("mosquitto_sub", "mosquitto-clients");
  const make = forwarders[name];
  if (make === undefined) throw new Error(`No forwarder is called ${name}`);
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const [own, a, b] = ["own", "a", "b"].map((part) => join(folder, part)) as [
    string,
    string,
    string,
  ];
  for (const part of [own, a, b]) mkdirSync(part);
  const from = await startMosquitto(a, "max_inflight_messages 1000\n");
  const to = await startMosquitto(b, "max_inflight_messages 1000\n");
  const forwarder = await make(own, from, to);
  const file = join(folder, "out");
  const output = openSync(file, "w");
  const flags = ["-p", String(to.port), "-t", "load/#", "-q", "1", "-i", "results"];
  const subscriber = spawn("mosquitto_sub", flags, { stdio: ["ignore", output, "ignore"] });
  const numbers = new Set<number>();
  let readTo = 0;
  const arrived = (): ReadonlySet<number> => {
    const bytes = readFileSync(file);
    const end = bytes.lastIndexOf(0x0a) + 1;
    for (const [, n] of bytes.toString("utf8", readTo, end).matchAll(/"n":(\d+)/g))
      numbers.add(Number(n));
    readTo = Math.max(readTo, end);
    return numbers;
  };
  try {
    await forwarder.start();
    // All have connected; what they subscribe to follows at once.
    await delay(2_000);
    return await act({ forwarder, from, arrived });
  } finally {
    await forwarder.kill();
    await endProcess(subscriber, "SIGKILL");
    closeSync(output);
    await from.kill();
    await to.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

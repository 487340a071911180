/**
 * The main job, end to end: publisher → mosquitto → agent (power-loss durability) → file sink, all on this machine,
 * beside `mosquitto_sub` writing the same messages to a file, which promises nothing.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent } from "../support/child-agent.ts";
import { requireProgram, startMosquitto } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { until } from "../support/until.ts";

const count = 100_000;
const payloadBytes = 90;

interface Row {
  readonly what: string;
  readonly perSecond: number;
  readonly cpuMicros: number;
  readonly stallMs: number | null;
  readonly rssMiB: number;
  readonly diskRatio: number;
  readonly whole: boolean;
}

export async function run(): Promise<void> {
  const rows: Row[] = [];
  rows.push(await throughAgent(1), await throughSubscriber(1), await throughAgent(2));
  process.stdout.write(
    `\n${count} messages of ${payloadBytes} bytes, publisher and mosquitto on the same two cores\n\n`,
  );
  process.stdout.write(
    "| what | messages/s | CPU µs each | longest stall ms | RSS MiB | bytes to disk for each of payload | all there, in order |\n",
  );
  process.stdout.write("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
  for (const row of rows) {
    process.stdout.write(
      `| ${row.what} | ${Math.round(row.perSecond).toLocaleString("en")} | ${row.cpuMicros.toFixed(1)} | ${row.stallMs?.toFixed(0) ?? "–"} | ${row.rssMiB.toFixed(0)} | ${row.diskRatio.toFixed(2)} | ${row.whole ? "yes" : "NO"} |\n`,
    );
  }
  const [one, floor] = rows;
  if (one !== undefined && floor !== undefined) {
    process.stdout.write(
      `\nagent to mosquitto_sub at QoS 1: ${(one.perSecond / floor.perSecond).toFixed(2)}\n`,
    );
  }
}

async function throughAgent(qos: 1 | 2): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const broker = await startMosquitto(folder, "max_inflight_messages 2000\n");
  const archive = join(folder, "archive");
  const agent = await childAgent(
    folder,
    `
sources:
  load: { type: mqtt, url: "${broker.url}", topics: ["load/{device}"], qos: ${qos}, stream: load }
sinks:
  archive: { type: file, path: ${archive}, from: [load], compress: none }
`,
  );
  try {
    await agent.start();
    await until("the source", async () =>
      (await agent.metrics()).includes('source_connected{source="load"} 1'),
    );
    // The scrape takes the stalls of starting away.
    await agent.metrics();
    const before = usage(agent.pid());
    const began = performance.now();
    const publisher = startPublisher({
      url: broker.url,
      topic: "load/d1",
      count,
      qos,
      window: 2000,
    });
    await publisher.done;
    let metrics = "";
    let stallMs = 0;
    await until(
      "all to be delivered",
      async () => {
        await delay(20);
        metrics = await agent.metrics();
        stallMs = Math.max(
          stallMs,
          1000 * Number(/^holdfast_event_loop_lag_seconds (\S+)$/m.exec(metrics)?.[1] ?? 0),
        );
        return metrics.includes(`sink_events_total{sink="archive",status="delivered"} ${count}`);
      },
      60_000,
    );
    const seconds = (performance.now() - began) / 1000;
    const after = usage(agent.pid());
    const rssMiB = agent.rssKiB() / 1024;
    const lines = readArchive(archive, "load");
    const whole =
      lines.length === count &&
      lines.every((line, n) => line.payload["n"] === n && line.seq === n + 1);
    return {
      what: `holdfast, QoS ${qos}, power-loss, with the file sink`,
      perSecond: count / seconds,
      cpuMicros: ((after.cpuSeconds - before.cpuSeconds) * 1e6) / count,
      stallMs,
      rssMiB,
      diskRatio: (after.diskBytes - before.diskBytes) / (count * payloadBytes),
      whole,
    };
  } finally {
    await agent.kill();
    await broker.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function throughSubscriber(qos: 1): Promise<Row> {
  requireProgram("mosquitto_sub", "mosquitto-clients");
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const broker = await startMosquitto(folder, "max_inflight_messages 2000\n");
  const file = join(folder, "out");
  const output = openSync(file, "w");
  const subscriber = spawn(
    "mosquitto_sub",
    [
      "-p",
      String(broker.port),
      "-t",
      "load/#",
      "-q",
      String(qos),
      "-i",
      "sub",
      "-V",
      "5",
      "-C",
      String(count),
    ],
    { stdio: ["ignore", output, "ignore"] },
  );
  try {
    await delay(500);
    const pid = subscriber.pid ?? 0;
    const before = usage(pid);
    const began = performance.now();
    const publisher = startPublisher({
      url: broker.url,
      topic: "load/d1",
      count,
      qos,
      window: 2000,
    });
    // It ends by itself at the last message, whose lines its buffer held until then.
    let [last, rssKiB] = [before, 0];
    await until(
      "the subscriber to end",
      async () => {
        if (subscriber.exitCode !== null) return true;
        const now = usage(pid);
        if (now.cpuSeconds > 0) last = now;
        rssKiB = Math.max(rssKiB, residentKiB(pid));
        await delay(5);
        return false;
      },
      60_000,
    );
    const seconds = (performance.now() - began) / 1000;
    await publisher.done;
    const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
    return {
      what: `mosquitto_sub to a file, QoS ${qos}, promises nothing`,
      perSecond: count / seconds,
      cpuMicros: ((last.cpuSeconds - before.cpuSeconds) * 1e6) / count,
      stallMs: null,
      rssMiB: rssKiB / 1024,
      diskRatio: (last.diskBytes - before.diskBytes) / (count * payloadBytes),
      whole:
        lines.length === count &&
        lines.every((line, n) => (JSON.parse(line) as { n: number }).n === n),
    };
  } finally {
    subscriber.kill("SIGKILL");
    closeSync(output);
    await broker.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

function residentKiB(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** proc(5): clock ticks are 1/100 s; write_bytes is what went to the disk layer. */
function usage(pid: number): { cpuSeconds: number; diskBytes: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    const io = readFileSync(`/proc/${pid}/io`, "utf8");
    return {
      cpuSeconds: (Number(stat[11]) + Number(stat[12])) / 100,
      diskBytes: Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0),
    };
  } catch {
    // It has just ended.
    return { cpuSeconds: 0, diskBytes: 0 };
  }
}

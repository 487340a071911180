/**
 * Going upstream: 1,000,000 events of backlog to a real server of each kind, and the whole agent from broker to broker
 * beside Node-RED and mosquitto's bridge.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createHttpSink } from "../../src/sink/http.ts";
import { createMqttSink } from "../../src/sink/mqtt.ts";
import { createValkeySink } from "../../src/sink/valkey.ts";
import { printDrained, takingServer } from "../support/draining.ts";
import { endProcess } from "../support/end-process.ts";
import { forwarders, forwarding, lostInKill, type Forwarding } from "../support/forwarders.ts";
import { httpSettings } from "../support/http-settings.ts";
import { freePort, startMosquitto } from "../support/mosquitto.ts";
import { mqttSettings } from "../support/mqtt-settings.ts";
import { installNodeRed, nodeRedVersion } from "../support/node-red.ts";
import { startRedis } from "../support/redis-server.ts";
import { valkeySettings } from "../support/valkey-far-side.ts";

const backlog = 1_000_000;
const forwarded = 50_000;
const rounds = 3;
/** A kill amid these takes a process away while messages come. */
const killed = { count: 20_000, rate: 2_000 };
const device = "box";

export async function run(): Promise<void> {
  await drain();
  await beside();
}

async function drain(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const servers = join(folder, "servers");
  mkdirSync(servers);
  const redis = await startRedis(servers);
  const broker = await startMosquitto(servers, "max_inflight_messages 1000\n");
  const port = await freePort();
  const http = takingServer(port);
  const compact = valkeySettings(redis.url, { encoding: "compact", stream: "compact:{stream}" });
  await printDrained(folder, backlog, {
    "valkey, PSPF's wire format": (context) =>
      createValkeySink(context, valkeySettings(redis.url), { device }),
    "valkey, compact": (context) => createValkeySink(context, compact, { device }),
    "mqtt 5, QoS 1": (context) => createMqttSink(context, mqttSettings(broker.url), { device }),
    "http, ndjson, gzip": (context) =>
      createHttpSink(context, httpSettings(`http://127.0.0.1:${port}`), { device }),
  });
  await redis.kill();
  await broker.kill();
  await endProcess(http, "SIGTERM");
  rmSync(folder, { recursive: true });
}

async function beside(): Promise<void> {
  installNodeRed();
  const names = Object.keys(forwarders);
  const each = new Map<string, Forwarding[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of names) each.get(name)?.push(await forwarding(name, forwarded));
  }
  say(
    `\nFrom broker to broker, QoS 1 in and out: ${forwarded.toLocaleString("en")} messages, median of ${rounds} rounds in turn, Node-RED ${nodeRedVersion}; and a kill -9 amid ${killed.count.toLocaleString("en")}\n`,
  );
  say(
    "| what | messages a second | CPU µs a message | lost by a kill | its rate, CPU to holdfast's |",
  );
  say("| --- | ---: | ---: | ---: | ---: |");
  let own: Forwarding | undefined;
  for (const name of names) {
    const found = each.get(name) ?? [];
    const perSecond = median(found.map((one) => one.perSecond));
    const cpuMicros = median(found.map((one) => one.cpuMicros));
    own ??= { perSecond, cpuMicros };
    const lost = await lostInKill(name, killed.count, killed.rate);
    const ratios = `${(perSecond / own.perSecond).toFixed(2)}, ${(cpuMicros / own.cpuMicros).toFixed(2)}`;
    say(
      `| ${name} | ${Math.round(perSecond).toLocaleString("en")} | ${cpuMicros.toFixed(1)} | ${lost} | ${ratios} |`,
    );
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

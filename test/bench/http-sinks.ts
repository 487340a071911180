/**
 * A backlog drained over HTTP, on this machine: journal → delivery → sink → a server in a process of its own that
 * reads the body and answers 204. Beside it what each event costs on the wire.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Context } from "../../src/core/context.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Journal, JournalHistory } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { createHttpSink } from "../../src/sink/http.ts";
import { createInfluxSink } from "../../src/sink/influx.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { httpSettings, influxSettings } from "../support/http-settings.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { freePort } from "../support/mosquitto.ts";
import { recordingContext } from "../support/recording-context.ts";
import { reading } from "../support/telemetry.ts";
import { until } from "../support/until.ts";

const count = 200_000;
const stream = "readings";
const server = `require("node:http").createServer((request, response) => {
  request.resume().on("end", () => response.writeHead(204).end());
}).listen(Number(process.argv[1]), "127.0.0.1")`;

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const port = await freePort();
  const child = spawn(process.execPath, ["-e", server, String(port)], { stdio: "inherit" });
  const url = `http://127.0.0.1:${port}`;
  const http = (more: Partial<ReturnType<typeof httpSettings>>) => (context: Context) =>
    createHttpSink(context, { ...httpSettings(url), ...more }, { device: "box" });
  const rows: Record<string, (context: Context) => Sink> = {
    "http, ndjson, gzip": http({}),
    "http, ndjson, gzip, idempotency crash": http({ idempotency: "crash" }),
    "http, ndjson, zstd": http({ compression: "zstd" }),
    "http, ndjson, none": http({ compression: "none" }),
    "http, CloudEvents, gzip": http({ format: "cloudevents" }),
    "influx, gzip": (context) =>
      createInfluxSink(
        context,
        { ...influxSettings(url), tags: { sensor: "device" } },
        { device: "box" },
      ),
  };
  const journal = await filledJournal(folder, Object.keys(rows));
  process.stdout.write(`\n${count} events of about 90 bytes\n\n`);
  process.stdout.write("| what | events/s | CPU µs each | bytes on the wire each |\n");
  process.stdout.write("| --- | ---: | ---: | ---: |\n");
  for (const [name, make] of Object.entries(rows)) {
    process.stdout.write(`${await drained(name, make, journal)}\n`);
  }
  await journal.close();
  child.kill();
  rmSync(folder, { recursive: true });
}

async function drained(
  name: string,
  make: (context: Context) => Sink,
  journal: Journal & JournalHistory,
): Promise<string> {
  const context = recordingContext(name);
  const delivery = createDelivery({
    context,
    journal,
    sink: make(context),
    streams: [stream],
    formats: new Map([[stream, "json"]]),
    device: "box",
  });
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  delivery.start();
  await until(name, () => delivery.lag().get(stream) === 0, 120_000);
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  await delivery.stop(1000);
  const wire = context.sums.get(`holdfast_sink_wire_bytes_total{sink="${name}"}`) ?? 0;
  return `| ${name} | ${Math.round(count / seconds).toLocaleString("en")} | ${((user + system) / count).toFixed(1)} | ${(wire / count).toFixed(1)} |`;
}

async function filledJournal(folder: string, groups: readonly string[]) {
  const journal = createJournal(
    recordingContext("journal"),
    journalSetup(
      join(folder, "journal.db"),
      { linger: 20, maxBytes: 1024 ** 3, maxAge: 86_400_000, onFull: "reject" },
      { device: "box" },
    ),
  );
  await journal.open(groups.map((group) => ({ group, streams: [stream] })));
  let safe = 0;
  for (let index = 0; index < count; index++) {
    while (!journal.hasRoom()) await new Promise((resolve) => setTimeout(resolve, 5));
    journal.append(stream, reading(index), () => safe++);
  }
  await until("the journal to be filled", () => safe === count, 120_000);
  return journal;
}

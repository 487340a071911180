/** A backlog drained over HTTP in each of its forms, and what each event costs on the wire. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Context } from "../../src/core/context.ts";
import { createHttpSink } from "../../src/sink/http.ts";
import { createInfluxSink } from "../../src/sink/influx.ts";
import { printDrained, takingServer } from "../support/draining.ts";
import { endProcess } from "../support/end-process.ts";
import { httpSettings, influxSettings } from "../support/http-settings.ts";
import { freePort } from "../support/mosquitto.ts";

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const port = await freePort();
  const server = takingServer(port);
  const url = `http://127.0.0.1:${port}`;
  const http = (more: Partial<ReturnType<typeof httpSettings>>) => (context: Context) =>
    createHttpSink(context, { ...httpSettings(url), ...more }, { device: "box" });
  const influx = { ...influxSettings(url), tags: { sensor: "device" } };
  await printDrained(folder, 200_000, {
    "http, ndjson, gzip": http({}),
    "http, ndjson, gzip, idempotency crash": http({ idempotency: "crash" }),
    "http, ndjson, zstd": http({ compression: "zstd" }),
    "http, ndjson, none": http({ compression: "none" }),
    "http, CloudEvents, gzip": http({ format: "cloudevents" }),
    "influx, gzip": (context) => createInfluxSink(context, influx, { device: "box" }),
  });
  await endProcess(server, "SIGTERM");
  rmSync(folder, { recursive: true });
}

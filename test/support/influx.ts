/** A real InfluxDB 1 on a free loopback port, ended by its pid. */
import { spawn, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, requireProgram } from "./mosquitto.ts";
import { endProcess } from "./end-process.ts";
import { until } from "./until.ts";

export interface Influx {
  readonly url: string;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts again on the same files and port. */
  start(): Promise<void>;
  /** InfluxQL on database `telemetry`; rows of the first series, times in ms. */
  query(text: string): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

export async function startInflux(folder: string): Promise<Influx> {
  requireProgram("influxd", "influxdb");
  const [http, rpc] = [await freePort(), await freePort()];
  const file = join(folder, "influxdb.conf");
  writeFileSync(
    file,
    `reporting-enabled = false
bind-address = "127.0.0.1:${rpc}"
[meta]
dir = "${join(folder, "meta")}"
[data]
dir = "${join(folder, "data")}"
wal-dir = "${join(folder, "wal")}"
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:${http}"
log-enabled = false
`,
  );
  const url = `http://127.0.0.1:${http}`;
  let child: ChildProcess | undefined;
  const influx: Influx = {
    url,
    async kill() {
      const running = child;
      child = undefined;
      await endProcess(running, "SIGKILL");
    },
    async start() {
      child = spawn("influxd", ["-config", file], { stdio: "ignore" });
      const made = async (): Promise<boolean> => {
        const q = new URLSearchParams({ q: "CREATE DATABASE telemetry" });
        const answer = await fetch(`${url}/query?${q.toString()}`, { method: "POST" }).catch(
          () => null,
        );
        return answer?.ok ?? false;
      };
      await until(`influxd on ${url}`, made, 60_000);
    },
    async query(text) {
      const q = new URLSearchParams({ q: text, db: "telemetry", epoch: "ms" });
      const answer = await fetch(`${url}/query?${q.toString()}`);
      const { results } = (await answer.json()) as {
        results: { series?: { columns: string[]; values: unknown[][] }[] }[];
      };
      const series = results[0]?.series?.[0];
      return (series?.values ?? []).map((row) =>
        Object.fromEntries(row.map((value, index) => [series?.columns[index] ?? "", value])),
      );
    },
  };
  await influx.start();
  return influx;
}

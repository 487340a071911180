/** A real Prometheus that takes remote write, on a free loopback port, ended by its pid. */
import { spawn, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, requireProgram } from "./mosquitto.ts";
import { endProcess } from "./end-process.ts";
import { until } from "./until.ts";

export interface PrometheusServer {
  readonly url: string;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts again on the same files and port. */
  start(): Promise<void>;
  /** Each series that `expression` gives at `at` (now, if left out), with its samples: [s, value as text]. */
  query(expression: string, at?: number): Promise<readonly PrometheusSeries[]>;
}

export interface PrometheusSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [seconds: number, value: string])[];
}

interface QueryAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data: {
    readonly result: readonly {
      readonly metric: Readonly<Record<string, string>>;
      readonly value?: readonly [number, string];
      readonly values?: readonly (readonly [number, string])[];
    }[];
  };
}

/** `window`: how far behind its newest sample it takes others; 0s: not at all. */
export async function startPrometheus(folder: string, window = "1d"): Promise<PrometheusServer> {
  requireProgram("prometheus", "prometheus");
  const port = await freePort();
  const file = join(folder, "prometheus.yml");
  writeFileSync(file, `storage:\n  tsdb:\n    out_of_order_time_window: ${window}\n`);
  const url = `http://127.0.0.1:${port}`;
  const flags = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, "tsdb")}`,
    // Tests write samples of other years.
    "--storage.tsdb.retention.time=100y",
    `--web.listen-address=127.0.0.1:${port}`,
    "--web.enable-remote-write-receiver",
    "--log.level=error",
  ];
  let child: ChildProcess | undefined;
  const server: PrometheusServer = {
    url,
    async kill() {
      const running = child;
      child = undefined;
      await endProcess(running, "SIGKILL");
    },
    async start() {
      child = spawn("prometheus", flags, { stdio: "ignore" });
      const ready = async (): Promise<boolean> =>
        (await fetch(`${url}/-/ready`).catch(() => null))?.ok ?? false;
      await until(`prometheus on ${url}`, ready, 60_000);
    },
    async query(expression, at) {
      const query = new URLSearchParams({ query: expression });
      if (at !== undefined) query.set("time", String(at / 1000));
      const answer = await fetch(`${url}/api/v1/query?${query.toString()}`);
      const { status, error, data } = (await answer.json()) as QueryAnswer;
      if (status !== "success") throw new Error(`${expression}: ${error}`);
      return data.result.map(({ metric, value, values }) => ({
        metric,
        values: values ?? (value === undefined ? [] : [value]),
      }));
    },
  };
  await server.start();
  return server;
}

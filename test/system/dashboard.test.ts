/** The dashboard that the device carries: each of its queries against an agent that runs, and against a Prometheus. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import mqtt from "mqtt";
import { childAgent } from "../support/child-agent.ts";
import { httpFarSide } from "../support/http-far-side.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPrometheus } from "../support/prometheus.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  }[];
}

/** What an agent without trouble, on a machine without such a sensor, has no series for. */
const maybeEmpty =
  /_dropped_total|_lost_total|_board_(temperature|throttled)|component_health.* > 0|_source_connected/;
/** Labels that the way to Prometheus adds. */
const addedLabels = ["device", "le"];

const queries = (
  JSON.parse(readFileSync("device/grafana/dashboard.json", "utf8")) as Dashboard
).panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat }) => ({ title, expr, legendFormat })),
);

test("every query of the dashboard finds what a running agent tells, in a Prometheus that it wrote to", async (t) => {
  const folder = tempDir(t);
  const server = await startPrometheus(folder);
  t.after(() => server.kill());
  const far = await httpFarSide(t);
  far.fate = ({ body }, number) =>
    body.includes("bad") ? { status: 400 } : number % 3 === 0 ? { status: 503 } : "take";
  const broker = await freePort();
  const agent = await childAgent(
    folder,
    `device: { id: box }
streams:
  readings: { schema: { t: number }, linger: 50ms }
sources:
  listen: { type: broker, listen: "127.0.0.1:${broker}", topics: ["#"], stream: readings }
  board: { type: system, every: 500ms, stream: system }
processors:
  hot: { from: readings, steps: [ { filter: "payload.t > 0" } ], to: alarms }
sinks:
  api: { type: http, url: "${far.url}/events", from: [alarms, system] }
  metrics: { type: remote-write, url: "${server.url}/api/v1/write", every: 1s }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${broker}`);
  t.after(() => client.endAsync(true));
  let sent = 0;
  const publish = async (): Promise<void> => {
    const payload =
      sent % 5 === 4
        ? `{"t":"no number"}`
        : JSON.stringify({ t: sent, note: sent % 7 === 6 ? "bad" : "" });
    sent++;
    await client.publishAsync("a", payload, { qos: 1 });
  };
  await until(
    "ten rounds in Prometheus",
    async () => {
      await publish();
      const [series] = await server.query('holdfast_journal_events{device="box"}[5m]');
      return (series?.values.length ?? 0) >= 10;
    },
    60_000,
  );
  const told = await agent.metrics();
  for (const { title, expr, legendFormat } of queries) {
    for (const [name, labels] of selectorsOf(expr)) {
      const lines = told
        .split("\n")
        .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      if (!maybeEmpty.test(expr)) assert.ok(lines.length > 0, `${title}: the agent has no ${name}`);
      for (const [label, value] of labels) {
        if (lines.length === 0 || addedLabels.includes(label)) continue;
        assert.ok(
          lines.some((line) => line.includes(`${label}="${value}"`)),
          `${title}: ${name} has no ${label}="${value}"`,
        );
      }
    }
    const query = expr.replaceAll("$device", "box").replaceAll("$__rate_interval", "1m");
    const found = await server.query(query);
    if (!maybeEmpty.test(expr)) assert.ok(found.length > 0, `${title} is empty: ${query}`);
    for (const { metric, values } of found) {
      assert.equal(metric["device"], "box", `${title} is not by device`);
      // A rate over no change is a number too; 0/0 is none.
      if (!/quantile| \/ /.test(expr)) assert.ok(Number.isFinite(Number(values[0]?.[1])), title);
      for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
        assert.ok(metric[label] !== undefined, `${title}: no label ${label} for its legend`);
      }
    }
  }
  assert.ok(queries.length > 25, String(queries.length));
  assert.ok(readFileSync(join(folder, "prometheus.yml"), "utf8").includes("out_of_order"));
});

/** The metrics that an expression asks for, with the labels that they must have. */
function selectorsOf(expr: string): [string, [string, string][]][] {
  return [...expr.matchAll(/([a-z_]+)\{([^}]*)\}/g)].map(([, name = "", inside = ""]) => [
    name,
    [...inside.matchAll(/(\w+)=~?"([^"]*)"/g)].map(([, label = "", value = ""]) => [label, value]),
  ]);
}

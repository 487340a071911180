/** Payloads that are within every bound of size and hard to hold: one event each, whatever reads them (invariant 8). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { readArchive } from "../support/archive.ts";
import { childAgent } from "../support/child-agent.ts";
import { holdfast } from "../support/command-line.ts";
import { untilFigure } from "../support/figures.ts";
import { httpFarSide } from "../support/http-far-side.ts";
import { freePort } from "../support/mosquitto.ts";
import { startRedis } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";

const deep = (levels: number, [open, close]: readonly [string, string] = ["[", "]"]): string =>
  open.repeat(levels) + "1" + close.repeat(levels);
const object = (count: number, value: (n: number) => unknown): object =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, value(n)]));

const hostile: readonly string[] = [
  deep(250_000),
  deep(100_000, ['{"a":', "}"]),
  `{"k":${deep(250_000)}}`,
  `{"a":${deep(250_000)}}`,
  '{"__proto__":{"x":1},"constructor":1,"k":"__proto__","a":"__proto__"}',
  '{"a":1e999,"k":-1e999}',
  '{"a":"\\ud800","k":"\\udfff\\u0000\\n+#/"}',
  '{"a":123456789012345678901234567890,"k":-0}',
  JSON.stringify("x".repeat(1_000_000)),
  JSON.stringify({ k: "z".repeat(1_000_000) }),
  JSON.stringify({ a: "x".repeat(1_000_000) }),
  JSON.stringify(object(70_000, (n) => n)),
  // Of which a step would make 200,000 events with 20,000 fields each.
  JSON.stringify({ a: Array.from({ length: 200_000 }, () => 0), ...object(20_000, (n) => n) }),
  // Whose name would stand before each of 30,000 others.
  JSON.stringify({ ["q".repeat(500_000)]: object(30_000, () => 1) }),
];

test("payloads that are hard to hold end nothing and stop nobody", async (t) => {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const port = await freePort();
  const server = await startRedis(folder);
  t.after(() => server.kill());
  const far = await httpFarSide(t);
  const agent = await childAgent(
    folder,
    `
device: { id: box }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["raw/{device}"], stream: raw }
streams:
  raw: { linger: 20ms, key: k }
processors:
  flat: { from: raw, steps: [{ flatten: {} }], to: made }
  parts: { from: raw, steps: [{ split: { field: a } }], to: made }
  once: { from: raw, steps: [{ dedupe: { by: a, within: 1h } }], to: made }
  sums: { from: raw, steps: [{ window: { tumbling: 1s, by: k, aggregate: { last: last(a) } } }], to: made }
  mapped: { from: raw, steps: [{ map: 'merge(payload, {"x": 1})' }], to: made }
sinks:
  archive: { type: file, path: ${archive}, from: [raw, made] }
  cells: { type: file, path: ${archive}-csv, format: csv, columns: { a: a }, from: [raw] }
  streams: { type: valkey, url: "${server.url}", from: [raw, made] }
  points: { type: influx, url: "${far.url}", version: 1, database: d, from: [raw, made] }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  for (const payload of hostile) await client.publishAsync("raw/d1", payload, { qos: 1 });
  await client.publishAsync("raw/d1", '{"a":1,"k":"good"}', { qos: 1 });
  for (const group of [
    "flat",
    "parts",
    "once",
    "sums",
    "mapped",
    "archive",
    "cells",
    "streams",
    "points",
  ])
    await untilFigure(
      agent,
      `stream_lag{stream="raw",group="${group}"}`,
      (value) => value === 0,
      60_000,
    );
  // Whoever has died answers no more: it is the same process, which nobody starts again.
  assert.equal((await fetch(`${agent.httpUrl}/ready`)).status, 200);
  assert.ok(readArchive(archive, "raw").some(({ payload }) => payload["k"] === "good"));
  // But for the four deep ones, which never enter.
  assert.equal(server.cli("XLEN", "box:raw"), `${hostile.length - 4 + 1}`);
  // Those who look at what was refused, and at what was not, live as well.
  for (const command of [
    ["dlq-inspect", "raw", "--json"],
    ["dlq-inspect", "raw"],
    ["tail", "raw", "--from", "1"],
    ["status"],
  ]) {
    const { code, err } = await holdfast(t, [...command, "--url", agent.adminUrl]);
    assert.equal(code, 0, `${command.join(" ")}: ${err}`);
  }
  assert.equal((await agent.stop()).code, 0);
});

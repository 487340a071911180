import assert from "node:assert/strict";
import { after, test, type TestContext } from "node:test";
import { loadConfigText } from "../../src/config/load.ts";
import { Secret } from "../../src/core/secret.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { createInfluxSink, type InfluxSinkSettings } from "../../src/sink/influx.ts";
import type { SendResult } from "../../src/sink/sink.ts";
import { assertSettled } from "../support/assert-settled.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { httpFarSide } from "../support/http-far-side.ts";
import { influxSettings } from "../support/http-settings.ts";
import { startInflux } from "../support/influx.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent, storedEvents } from "../support/stored-event.ts";
import { tempDirAll } from "../support/temp-dir.ts";

const never = new AbortController().signal;

async function opened(t: TestContext, url: string, given: Partial<InfluxSinkSettings> = {}) {
  const context = recordingContext("influx", new FakeClock());
  const sink = createInfluxSink(context, { ...influxSettings(url), ...given }, { device: "box" });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  return (events: readonly StoredEvent[]): Promise<SendResult> =>
    sink.send({ device: "box", stream: "readings", events, format: "json" }, never);
}

const json = (seq: number, payload: unknown): StoredEvent =>
  storedEvent({ seq, payload: Buffer.from(JSON.stringify(payload)) });

test("send() speaks to the write endpoint of each version, with its token", async (t) => {
  const far = await httpFarSide(t);
  const token = new Secret({ text: "t0ken" });
  const where = { retentionPolicy: "month", bucket: "b", org: "o" };
  for (const [version, path, authorization] of [
    [1, "/write?db=telemetry&rp=month&precision=ms", "Bearer t0ken"],
    [2, "/api/v2/write?org=o&bucket=b&precision=ms", "Token t0ken"],
    [3, "/api/v3/write_lp?db=telemetry&precision=millisecond", "Bearer t0ken"],
  ] as const) {
    const send = await opened(t, far.url, { version, token, ...where });
    assertSettled(await send(storedEvents(1, 2)), 2);
    const { path: asked, headers, body } = far.requests.at(-1) ?? assert.fail();
    assert.equal(asked, path);
    assert.equal(headers.authorization, authorization);
    assert.equal(
      body.toString(),
      "readings,device=box n=1 1767225600001\nreadings,device=box n=2 1767225600002\n",
    );
  }
});

test("send() refuses what cannot be a point by itself, and sends the rest", async (t) => {
  const far = await httpFarSide(t);
  const send = await opened(t, far.url);
  const { settled, refused } = await send([json(1, {}), json(2, { n: 1 }), json(3, null)]);
  assert.equal(settled, 3);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [0, 2],
  );
  assert.equal(far.requests.length, 1);
  assert.deepEqual(await send([json(4, { n: null })]).then((result) => result.refused.length), 1);
  assert.equal(far.requests.length, 1, "nothing to send");
});

test("send() believes version 3 where it names lines", async (t) => {
  const far = await httpFarSide(t);
  const send = await opened(t, far.url, { version: 3 });
  const partial = {
    error: "partial write of line protocol occurred",
    data: [{ original_line: "…", line_number: 2, error_message: "wrong type" }],
  };
  far.fate = () => ({ status: 400, body: JSON.stringify(partial) });
  const { settled, refused } = await send([json(1, {}), ...storedEvents(2, 3)]);
  assert.equal(settled, 4);
  // Line 2 is the third event: the first has no line.
  assert.deepEqual(
    refused.map(({ index, error }) => [index, error.message.replace(far.url, "URL")]),
    [
      [0, "Event has no field to write"],
      [2, "Refused by URL: wrong type"],
    ],
  );
  assert.equal(far.requests.length, 1);
});

test("the configuration says what a version needs", () => {
  const problems = (more: string): string => {
    const text = `sources: { board: { type: system } }\nsinks: { up: { type: influx, url: "http://i:8086", from: [system]${more} } }`;
    const loaded = loadConfigText(text, "a.yaml");
    return "problems" in loaded ? JSON.stringify(loaded.problems) : "";
  };
  assert.match(problems(""), /Version 2 needs bucket and org/);
  assert.match(problems(", version: 3"), /Version 3 needs database/);
  assert.equal(problems(", bucket: b, org: o"), "");
});

const folder = tempDirAll(after);

test("InfluxDB 1 holds each event once with its time, and only what it cannot hold is refused", async (t) => {
  const influx = await startInflux(folder);
  t.after(() => influx.kill());
  const send = await opened(t, influx.url, { tags: { room: "room" }, precision: "ns" });
  const time = Date.UTC(2026, 0, 1);
  const payloads = [
    { v: 1, room: "a, b=c\\" },
    // A field keeps the type that it came with first: a partial write.
    { v: "text", room: "r" },
    { v: 2, s: 'q"\\\nz', room: "r" },
    { v: 3, room: "r" },
    { v: 4, room: "r" },
  ];
  const events = payloads.map((payload, index) => ({ ...json(index + 1, payload), time }));
  const { settled, refused } = await send(events);
  assert.equal(settled, 5);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [1],
  );
  assert.match(refused[0]?.error.message ?? "", /partial write: field type conflict/);
  await send(events.slice(2));
  const rows = await influx.query("SELECT v, s, room, device FROM readings");
  assert.deepEqual(rows, [
    { time, v: 1, s: null, room: "a, b=c", device: "box" },
    { time, v: 2, s: 'q"\\\nz', room: "r", device: "box" },
    { time, v: 3, s: null, room: "r", device: "box" },
    { time, v: 4, s: null, room: "r", device: "box" },
  ]);
  const missing = await opened(t, influx.url, { database: "elsewhere" });
  assert.equal((await missing(events)).failure?.kind, "config");
});

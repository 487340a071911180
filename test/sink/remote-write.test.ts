import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { StoredEvent } from "../../src/core/event.ts";
import { createRemoteWriteSink, type RemoteWriteSettings } from "../../src/sink/remote-write.ts";
import type { SendResult } from "../../src/sink/sink.ts";
import { assertSettled } from "../support/assert-settled.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { httpFarSide, type HttpFarSide } from "../support/http-far-side.ts";
import { remoteWriteSettings } from "../support/http-settings.ts";
import { readOne, readTwo, unsnappy, type ReadSeries } from "../support/protobuf-reader.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent } from "../support/stored-event.ts";

const never = new AbortController().signal;

async function opened(t: TestContext, given: Partial<RemoteWriteSettings> = {}) {
  const far = await httpFarSide(t);
  const clock = new FakeClock();
  const context = recordingContext("metrics", clock);
  const settings = { ...remoteWriteSettings(`${far.url}/api/v1/write`), ...given };
  const sink = createRemoteWriteSink(context, settings, { device: "box" });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  const send = (events: readonly StoredEvent[]): Promise<SendResult> =>
    sink.send({ device: "box", stream: "_metrics", events, format: "json" }, never);
  return { far, clock, context, sink, send };
}

const round = (seq: number, samples: unknown, given: Partial<StoredEvent> = {}): StoredEvent =>
  storedEvent({ seq, time: seq * 1000, payload: Buffer.from(JSON.stringify(samples)), ...given });

const lastOf = (far: HttpFarSide): ReadSeries[] =>
  readOne(unsnappy(far.requests.at(-1)?.body ?? Buffer.alloc(0)));

test("send() writes each series once in a request, its labels sorted, its samples by time", async (t) => {
  const { far, send } = await opened(t, { labels: { site: "north", zone: "{stream}" } });
  const name = 'holdfast_sink_connected{sink="a\\"b"}';
  const events = [
    round(2, { [name]: 1, up: 0.5 }),
    round(1, { [name]: 0 }),
    round(3, { up: -1e300, text: "no number" }),
  ];
  assertSettled(await send(events), 3);
  const fixed = {
    device: "box",
    instance: "box",
    job: "holdfast",
    site: "north",
    zone: "_metrics",
  };
  assert.deepEqual(lastOf(far), [
    {
      labels: { __name__: "holdfast_sink_connected", ...fixed, sink: 'a"b' },
      names: ["__name__", "device", "instance", "job", "sink", "site", "zone"],
      samples: [
        { timeMs: 1000, value: 0 },
        { timeMs: 2000, value: 1 },
      ],
    },
    {
      labels: { __name__: "up", ...fixed },
      names: ["__name__", "device", "instance", "job", "site", "zone"],
      samples: [
        { timeMs: 2000, value: 0.5 },
        { timeMs: 3000, value: -1e300 },
      ],
    },
  ]);
  const { headers } = far.requests[0] ?? assert.fail();
  assert.equal(headers["content-type"], "application/x-protobuf");
  assert.equal(headers["content-encoding"], "snappy");
  assert.equal(headers["x-prometheus-remote-write-version"], "0.1.0");
});

test("send() speaks 2.0 to a receiver that says what it has written, and 1.0 to all others", async (t) => {
  const written = { "x-prometheus-remote-write-samples-written": "1" };
  const two = await opened(t, { protocol: "auto" });
  two.far.fate = () => ({ status: 204, headers: written });
  assert.equal((await two.send([round(-5, { up: 1 })])).settled, 1);
  assert.equal(two.far.requests.length, 1);
  const { headers, body } = two.far.requests[0] ?? assert.fail();
  assert.equal(
    headers["content-type"],
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
  );
  assert.equal(headers["x-prometheus-remote-write-version"], "2.0.0");
  assert.deepEqual(readTwo(unsnappy(body)), [
    {
      labels: { __name__: "up", device: "box", instance: "box", job: "holdfast" },
      names: ["__name__", "device", "instance", "job"],
      samples: [{ timeMs: -5000, value: 1 }],
    },
  ]);

  for (const status of [415, 204]) {
    const one = await opened(t, { protocol: "auto" });
    one.far.fate = ({ headers: told }) =>
      String(told["content-type"]).includes("v2") ? { status } : "take";
    for (const seq of [1, 2]) assert.equal((await one.send([round(seq, { up: 1 })])).settled, 1);
    assert.equal(one.far.requests.length, 3, "it asks once");
    assert.equal(lastOf(one.far).length, 1);
  }
});

test("send() refuses what is no map of samples, and samples of a clock that was never set", async (t) => {
  const { far, send } = await opened(t);
  const { settled, refused } = await send([
    round(1, [1]),
    round(2, { up: 1 }),
    round(3, { up: 1 }, { clock: "unsynced" }),
    round(4, {}, { payload: Buffer.from("{") }),
    round(5, {}),
  ]);
  assert.equal(settled, 5);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [0, 2, 3],
  );
  assert.equal(far.requests.length, 1);
});

test("send() waits until the clock is set", async (t) => {
  const { far, clock, send } = await opened(t);
  clock.clockQuality = "unsynced";
  const { settled, failure } = await send([round(1, { up: 1 })]);
  assert.deepEqual([settled, failure?.kind], [0, "transient"]);
  clock.clockQuality = "provisional";
  assert.equal((await send([round(1, { up: 1 })])).settled, 1);
  assert.equal(far.requests.length, 1);
});

test("send() leaves out series beyond the bound, and says so once", async (t) => {
  const { far, send, sink, context } = await opened(t, { maxSeries: 3 });
  for (const seq of [1, 2]) await send([round(seq, { a: 1, b: 1, c: 1, d: 1, e: 1 })]);
  assert.deepEqual(
    lastOf(far).map(({ labels }) => labels["__name__"]),
    ["a", "b", "c"],
  );
  assert.equal(sink.figures?.()["series"], 3);
  assert.equal(sink.figures?.()["seriesLeftOut"], 2);
  assert.equal(
    context.lines.filter(({ message }) => message.includes("leaves series out")).length,
    1,
  );
});

test("send() passes over samples that are too old for the receiver with few requests, however many", async (t) => {
  const { far, send } = await opened(t);
  far.fate = ({ body }) => {
    const oldest = Math.min(
      ...readOne(unsnappy(body)).flatMap(({ samples }) => samples[0]?.timeMs ?? 0),
    );
    return oldest < 700_000 ? { status: 500, body: "too old sample" } : "take";
  };
  const events = Array.from({ length: 1000 }, (_, index) => round(index + 1, { up: 1 }));
  const { settled, refused } = await send(events);
  assert.deepEqual([settled, refused.length], [1000, 699]);
  assert.ok(far.requests.length < 45, String(far.requests.length));
});

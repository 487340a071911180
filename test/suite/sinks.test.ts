/** What every sink must do, on the real thing: one body, a row for each kind. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import mqtt from "mqtt";
import { createDelivery } from "../../src/flow/deliver.ts";
import { createConsoleSink } from "../../src/sink/console.ts";
import { createFileSink } from "../../src/sink/file.ts";
import { createHttpSink } from "../../src/sink/http.ts";
import type { sinkKinds } from "../../src/sink/kinds.ts";
import { createInfluxSink } from "../../src/sink/influx.ts";
import { createMqttSink } from "../../src/sink/mqtt.ts";
import { createRemoteWriteSink } from "../../src/sink/remote-write.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { createValkeySink } from "../../src/sink/valkey.ts";
import { range, seqsOf } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { httpFarSide, linesOf, type Fate } from "../support/http-far-side.ts";
import { mqttSettings } from "../support/mqtt-settings.ts";
import { httpSettings, influxSettings, remoteWriteSettings } from "../support/http-settings.ts";
import { startInflux } from "../support/influx.ts";
import { ListJournal } from "../support/list-journal.ts";
import { startMosquitto } from "../support/mosquitto.ts";
import { startRedis } from "../support/redis-server.ts";
import { seqsIn, valkeySettings } from "../support/valkey-far-side.ts";
import { startPrometheus } from "../support/prometheus.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const streams = ["alarms", "readings"];

interface FarSide {
  create(context: RecordingContext): Sink;
  /** Seqs that arrived, in order. */
  seqs(stream: string): number[];
  /** What it sends on is not confirmed from here on … */
  goAway(): Promise<void>;
  /** … to here. */
  comeBack(): Promise<void>;
  /** Whether a confirmation that was lost on the way leads to a repetition. */
  readonly repeats: boolean;
  /** Whether being away is a failure, or only makes the sink wait. */
  readonly fails: boolean;
}

const kinds: Record<keyof typeof sinkKinds, (t: TestContext) => Promise<FarSide>> = {
  valkey: valkeyServer,
  mqtt: mqttBroker,
  http: httpServer,
  influx: influxDatabase,
  "remote-write": prometheus,
  file: folder,
  console: pipe,
};

for (const [kind, make] of Object.entries(kinds)) {
  suite(`sink ${kind}`, () => {
    test("delivers two streams, each in order, and the cursors follow", async (t) => {
      const scene = await openScene(t, make);
      scene.append(3000);
      await scene.arrived(3000);
      await scene.stop();
      for (const stream of streams) {
        assert.deepEqual(scene.far.seqs(stream), range(1, 3000));
        assert.equal(scene.journal.cursor("out", stream).seq, 3000);
      }
      assert.equal(scene.context.now().status, "ok");
    });

    test("goes on where it was when its far side has been away: nothing is missing", async (t) => {
      const scene = await openScene(t, make);
      scene.append(500);
      await scene.arrived(500);
      scene.append(8000);
      await scene.arrived(1000);
      await scene.far.goAway();
      scene.append(500);
      await new Promise((resolve) => setTimeout(resolve, 200));
      await scene.far.comeBack();
      await scene.arrived(9000);
      for (const stream of streams) scene.checkWhole(stream, 9000);
      const failures = scene.context.reports.filter(({ status }) => status !== "ok").length - 1;
      assert.equal(failures > 0, scene.far.fails, "it was away for the sink as well");
      await until("the report", () => scene.context.now().status === "ok");
    });

    test("a second delivery goes on where the first one stopped", async (t) => {
      const scene = await openScene(t, make);
      scene.append(1000);
      await scene.arrived(1000);
      await scene.stop();
      scene.append(1000);
      scene.start();
      await scene.arrived(2000);
      await scene.stop();
      for (const stream of streams) assert.deepEqual(scene.far.seqs(stream), range(1, 2000));
    });

    test("close() may be called twice, and before open()", async (t) => {
      const far = await make(t);
      const sink = far.create(recordingContext("out", new FakeClock()));
      await sink.close();
      const positions = new Map(streams.map((stream) => [stream, { seq: 0, mark: null }]));
      await sink.open(positions, new AbortController().signal);
      await sink.close();
      await sink.close();
    });
  });
}

async function openScene(t: TestContext, make: (t: TestContext) => Promise<FarSide>) {
  const far = await make(t);
  const clock = new FakeClock();
  const context = recordingContext("out", clock);
  const journal = new ListJournal();
  const formats = new Map([["readings", "json" as const]]);
  const begin = () => {
    const sink = far.create(context);
    const delivery = createDelivery({ context, journal, sink, streams, formats, device: "box" });
    delivery.start();
    t.after(() => delivery.stop(0));
    return delivery;
  };
  let delivery = begin();
  return {
    far,
    context,
    journal,
    append: (count: number) => streams.forEach((stream) => journal.append(stream, count)),
    start: () => (delivery = begin()),
    stop: () => delivery.stop(1000),
    /** Until each stream has come to `seq`; time passes meanwhile. */
    arrived: (seq: number) =>
      until(`${seq} of each stream; ${context.now().detail}`, () => {
        clock.advance(500);
        return streams.every((stream) => far.seqs(stream).includes(seq));
      }),
    checkWhole(stream: string, count: number): void {
      const seqs = far.seqs(stream);
      const news = seqs.filter((seq, index) => seqs.indexOf(seq) === index);
      assert.deepEqual(news, range(1, count), "in order, none missing");
      if (!far.repeats) assert.equal(seqs.length, count, "none twice");
    },
  };
}

/** A server that is killed: what it has answered is on its disk. */
async function valkeyServer(t: TestContext): Promise<FarSide> {
  const server = await startRedis(tempDir(t), { durable: true });
  t.after(() => server.kill());
  return {
    create: (context) =>
      createValkeySink(context, valkeySettings(server.url, { from: streams }), { device: "box" }),
    seqs: (stream) => seqsIn(server, `box:${stream}`),
    repeats: false,
    fails: true,
    goAway: () => server.kill(),
    comeBack: () => server.start(),
  };
}

const upstream = { from: streams, topic: "up/{device}/{stream}" };

/** mosquitto, and a subscriber that is there again before the sink is. */
async function mqttBroker(t: TestContext): Promise<FarSide> {
  const broker = await startMosquitto(tempDir(t));
  t.after(() => broker.kill());
  const seen = new Map<string, number[]>(streams.map((stream) => [stream, []]));
  const connect = async () => {
    const client = await mqtt.connectAsync(broker.url, { protocolVersion: 5, reconnectPeriod: 0 });
    client.on("message", (topic, payload, { properties }) => {
      const [, device, stream = ""] = topic.split("/");
      const user = properties?.userProperties;
      const seq = Number(user?.["seq"]);
      const { epoch, time, ...name } = { ...user };
      assert.deepEqual(name, { device, stream, seq: String(seq) });
      assert.match(`${String(epoch)} ${String(time)}`, /^[0-9a-f-]{36} 20\d\d-.*Z$/);
      assert.equal(payload.toString(), `{"n":${seq}}`);
      seen.get(stream)?.push(seq);
    });
    // QoS 0: mosquitto has written it to the subscriber before it acknowledges it to us.
    await client.subscribeAsync("up/#", { qos: 0 });
    return client;
  };
  let subscriber = await connect();
  t.after(() => subscriber.endAsync(true));
  return {
    create: (context) =>
      createMqttSink(context, mqttSettings(broker.url, upstream), { device: "box" }),
    seqs: (stream) => seen.get(stream) ?? [],
    repeats: true,
    fails: true,
    goAway: async () => {
      await broker.kill();
      await subscriber.endAsync(true);
    },
    comeBack: async () => {
      await broker.start();
      subscriber = await connect();
    },
  };
}

/**
 * A server that honours idempotency keys and does to every seventh request what servers do. Each event arrives once
 * all the same, because a request is repeated as it was.
 */
async function httpServer(t: TestContext): Promise<FarSide> {
  const far = await httpFarSide(t);
  far.honoursKeys = true;
  const fates: readonly Fate[] = [
    { status: 503, headers: { "retry-after": "2" } },
    "take-and-cut",
    "take-and-hang",
    "cut",
    { status: 500, takes: true },
  ];
  let faults = 0;
  far.fate = (_request, number) =>
    number % 7 === 0 ? (fates[faults++ % fates.length] ?? "take") : "take";
  return {
    create: (context) => createHttpSink(context, httpSettings(far.url), { device: "box" }),
    seqs: (stream) =>
      linesOf(far.taken)
        .filter((line) => line["stream"] === stream)
        .map((line) => line["seq"] as number),
    repeats: false,
    fails: true,
    goAway: () => far.goAway(),
    comeBack: () => far.comeBack(),
  };
}

/** InfluxDB 1, killed for a while. A point that comes twice is one point. */
async function influxDatabase(t: TestContext): Promise<FarSide> {
  const influx = await startInflux(tempDir(t));
  t.after(() => influx.kill());
  const seqs = watch(t, async (stream) => {
    const rows = await influx.query(`SELECT n FROM ${stream}`);
    return rows.map(({ n }) => n as number);
  });
  return {
    create: (context) => createInfluxSink(context, influxSettings(influx.url), { device: "box" }),
    seqs,
    repeats: false,
    fails: true,
    goAway: () => influx.kill(),
    comeBack: () => influx.start(),
  };
}

/** A Prometheus, killed for a while. An event is a map of series to numbers: `{"n":12}`. */
async function prometheus(t: TestContext): Promise<FarSide> {
  const server = await startPrometheus(tempDir(t));
  t.after(() => server.kill());
  const settings = {
    ...remoteWriteSettings(`${server.url}/api/v1/write`),
    labels: { of: "{stream}" },
  };
  const end = Date.UTC(2026, 0, 1, 0, 1);
  const seqs = watch(t, async (stream) => {
    const [series] = await server.query(`n{of="${stream}",device="box"}[2m]`, end);
    return (series?.values ?? []).map(([, value]) => Number(value));
  });
  return {
    create: (context) => createRemoteWriteSink(context, settings, { device: "box" }),
    seqs,
    repeats: false,
    fails: true,
    goAway: () => server.kill(),
    comeBack: () => server.start(),
  };
}

/** What a far side that must be asked has last said that it holds. */
function watch(t: TestContext, ask: (stream: string) => Promise<number[]>) {
  const seen = new Map<string, number[]>();
  const ending = new AbortController();
  const turn = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      for (const stream of streams) {
        const found = await ask(stream).catch(() => null);
        if (found !== null) seen.set(stream, found);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const turning = turn();
  t.after(async () => {
    ending.abort();
    await turning;
  });
  return (stream: string): number[] => seen.get(stream) ?? [];
}

/** An archive whose folder is replaced by a file for a while. */
async function folder(t: TestContext): Promise<FarSide> {
  const path = join(tempDir(t), "archive");
  const away = `${path}.away`;
  return {
    create: (context) =>
      createFileSink(
        context,
        {
          from: streams,
          path,
          format: "ndjson",
          columns: {},
          rotate: 86_400_000,
          maxFileBytes: 32 * 1024,
          compress: "gzip",
          maxBytes: undefined,
        },
        { device: "box" },
      ),
    seqs: (stream) => seqsOf(path, stream),
    repeats: false,
    fails: true,
    goAway: async () => {
      renameSync(path, away);
      writeFileSync(path, "");
    },
    comeBack: async () => {
      rmSync(path);
      renameSync(away, path);
    },
  };
}

/** A pipe into `cat`, which is stopped for a while: the writer must wait, in no more memory. */
async function pipe(t: TestContext): Promise<FarSide> {
  const reader = spawn("cat", { stdio: ["pipe", "pipe", "inherit"] });
  t.after(async () => {
    reader.kill("SIGKILL");
    await once(reader, "exit");
  });
  const seen = new Map<string, number[]>(streams.map((stream) => [stream, []]));
  let rest = "";
  reader.stdout.on("data", (data: Buffer) => {
    const lines = (rest + data.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const folded = /^\S+ {2}(\S+) {2}\+[\d,]+ events \(seq (\d+)–(\d+)\), last: \{"n":\3\}$/.exec(
        line,
      );
      const single = /^\S+ {2}(\S+) {2}\{"n":(\d+)\}$/.exec(line);
      const [, stream = "", first, last] = folded ?? single ?? assert.fail(`Line ${line}`);
      seen.get(stream)?.push(...range(Number(first), Number(last ?? first)));
    }
  });
  return {
    create: (context) =>
      createConsoleSink(
        context,
        { from: streams, linesPerSecond: 20 },
        { device: "box", output: reader.stdin },
      ),
    seqs: (stream) => seen.get(stream) ?? [],
    repeats: false,
    fails: false,
    goAway: async () => void reader.kill("SIGSTOP"),
    comeBack: async () => void reader.kill("SIGCONT"),
  };
}

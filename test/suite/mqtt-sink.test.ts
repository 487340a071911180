/** The mqtt sink on a real mosquitto: TLS, users, rights, and a broker that is stopped in its tracks. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { Secret } from "../../src/core/secret.ts";
import { createMqttSink, type MqttSinkSettings } from "../../src/sink/mqtt.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { startLossyProxy } from "../support/lossy-proxy.ts";
import { freePort, requireProgram, startMosquitto } from "../support/mosquitto.ts";
import { mqttSettings } from "../support/mqtt-settings.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvents } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

function makeSink(t: TestContext, url: string, given: Partial<MqttSinkSettings> = {}): Sink {
  const settings = mqttSettings(url, { ackTimeout: 10_000, ...given });
  const sink = createMqttSink(recordingContext("up"), settings, { device: "box" });
  t.after(() => sink.close());
  return sink;
}

const send = (sink: Sink, count: number) =>
  sink.send({ device: "box", stream: "readings", events: storedEvents(1, count) }, never);

const isDenied = (error: unknown): boolean => {
  assert.ok(error instanceof HoldfastError);
  assert.equal(error.code, "SINK_DENIED", error.message);
  return true;
};

test("open() speaks TLS to a broker that it can verify, and to no other", async (t) => {
  requireProgram("openssl", "openssl");
  const folder = tempDir(t);
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const request = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
  ];
  const subject = [
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=IP:127.0.0.1,DNS:localhost",
  ];
  const files = ["-keyout", key, "-out", cert, "-days", "2"];
  execFileSync("openssl", [...request, ...subject, ...files], { stdio: "ignore" });
  const port = await freePort();
  const config = `listener ${port} 127.0.0.1\nallow_anonymous true\ncertfile ${cert}\nkeyfile ${key}\n`;
  const broker = await startMosquitto(folder, config, port);
  t.after(() => broker.kill());
  const url = `mqtts://127.0.0.1:${port}`;
  const trusting = makeSink(t, url, { tls: { ...mqttSettings("").tls, ca: cert } });
  await trusting.open(new Map(), never);
  assert.equal((await send(trusting, 500)).settled, 500);
  await assert.rejects(makeSink(t, url).open(new Map(), never), isDenied);
  const careless = makeSink(t, url, { tls: { ...mqttSettings("").tls, verify: false } });
  await careless.open(new Map(), never);
  const missing = makeSink(t, url, {
    tls: { ...mqttSettings("").tls, ca: join(folder, "none.pem") },
  });
  await assert.rejects(missing.open(new Map(), never), { code: "SECRET_UNREADABLE" });
});

test("open() and send() say when the broker does not let us in", async (t) => {
  const folder = tempDir(t);
  const [users, rights] = [join(folder, "users"), join(folder, "rights")];
  writeFileSync(users, "edge:right\n");
  execFileSync("mosquitto_passwd", ["-U", users]);
  writeFileSync(rights, "user edge\ntopic write box/allowed\n");
  const port = await freePort();
  const config = `listener ${port} 127.0.0.1\nallow_anonymous false\npassword_file ${users}\nacl_file ${rights}\n`;
  const broker = await startMosquitto(folder, config, port);
  t.after(() => broker.kill());
  const as = (password: string, topic: string): Sink =>
    makeSink(t, broker.url, { username: "edge", password: new Secret({ text: password }), topic });
  await assert.rejects(as("wrong", "box/allowed").open(new Map(), never), isDenied);
  const allowed = as("right", "box/allowed");
  await allowed.open(new Map(), never);
  assert.equal((await send(allowed, 3)).settled, 3);
  const denied = as("right", "box/other");
  await denied.open(new Map(), never);
  const { settled, refused, failure } = await send(denied, 3);
  assert.deepEqual([settled, refused], [0, []]);
  isDenied(failure);
});

test("send() refuses an event that is larger than the broker takes, and the rest goes on", async (t) => {
  const broker = await startMosquitto(tempDir(t), "max_packet_size 1000");
  t.after(() => broker.kill());
  const sink = makeSink(t, broker.url);
  await sink.open(new Map(), never);
  const [small, large] = storedEvents(1, 2);
  assert.ok(small !== undefined && large !== undefined);
  const events = [{ ...large, payload: Buffer.alloc(2000) }, small];
  const result = await sink.send({ device: "box", stream: "readings", events }, never);
  assert.equal(result.settled, 2);
  assert.deepEqual(
    result.refused.map(({ index }) => index),
    [0],
  );
});

test("statusTopic keeps whether the device is there: birth, farewell, and the will when it is cut off", async (t) => {
  const broker = await startMosquitto(tempDir(t));
  t.after(() => broker.stop());
  const kept = (): { status?: string; device?: string; at?: string } => {
    const args = ["-p", `${broker.port}`, "-t", "status/box", "-C", "1", "-W", "5"];
    return JSON.parse(execFileSync("mosquitto_sub", args, { encoding: "utf8" })) as object;
  };
  const lossy = await startLossyProxy(t, broker.port, () => false);
  const given = { statusTopic: "status/{device}" };
  const sink = makeSink(t, `mqtt://127.0.0.1:${lossy.port}`, given);
  await sink.open(new Map(), never);
  const born = kept();
  assert.deepEqual([born.status, born.device], ["online", "box"]);
  assert.ok(Math.abs(Date.parse(born.at ?? "") - Date.now()) < 60_000, born.at);
  assert.equal((await send(sink, 3)).settled, 3);
  await sink.close();
  assert.equal(kept().status, "offline");
  await sink.open(new Map(), never);
  assert.equal(kept().status, "online");
  lossy.cut();
  await until("the will", () => kept().status === "offline");
  assert.deepEqual(kept(), { device: "box", status: "offline" });
});

test("a broker that takes no status from us is not asked again, and takes the events", async (t) => {
  const folder = tempDir(t);
  const acl = join(folder, "acl");
  writeFileSync(acl, "topic write box/#\n", { mode: 0o600 });
  const broker = await startMosquitto(folder, `acl_file ${acl}`);
  t.after(() => broker.stop());
  const sink = makeSink(t, broker.url, { statusTopic: "status/{device}" });
  await sink.open(new Map(), never);
  // mosquitto 2.0.11 hangs up.
  await sink.close();
  await sink.open(new Map(), never);
  assert.equal((await send(sink, 3)).settled, 3);
});

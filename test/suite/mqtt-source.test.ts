/** The MQTT source against Debian's mosquitto. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createMqttSource } from "../../src/source/mqtt.ts";
import type { Source } from "../../src/source/source.ts";
import { heldIntake, type HeldIntake } from "../support/held-intake.ts";
import { freePort, requireProgram, startMosquitto, type Mosquitto } from "../support/mosquitto.ts";
import { startPublisher, type PublisherOptions } from "../support/publishing.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { mqttOptions } from "../support/started-source.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Running {
  readonly source: Source;
  readonly intake: HeldIntake;
  readonly context: RecordingContext;
}

async function mosquitto(test: TestContext, config = "", port?: number): Promise<Mosquitto> {
  const broker = await startMosquitto(tempDir(test), config, port);
  test.after(() => broker.kill());
  return broker;
}

/** A source with an intake that commits at once, unless it is told to hold. */
async function running(
  test: TestContext,
  url: string,
  more: Readonly<Record<string, unknown>> = {},
  holds = false,
): Promise<Running> {
  const context = recordingContext("load");
  const intake = heldIntake();
  if (!holds) intake.commitAlways();
  const source = createMqttSource(context, mqttOptions(url, more), { device: "d1" });
  test.after(() => source.close(0));
  await source.open(intake);
  return { source, intake, context };
}

const subscribed = (context: RecordingContext): Promise<void> =>
  until("the subscription", () => context.now().status === "ok");

async function publish(
  url: string,
  count: number,
  more: Partial<PublisherOptions> = {},
): Promise<void> {
  const publisher = startPublisher({ url, topic: "load/d1", count, qos: 1, window: 500, ...more });
  assert.equal(await publisher.done, count);
}

const numbers = (intake: HeldIntake): number[] =>
  intake.disk.payloads.map((payload) => (JSON.parse(payload) as { n: number }).n);
const upTo = (count: number, from = 0): number[] =>
  Array.from({ length: count }, (_, index) => from + index);

for (const protocol of ["auto", "3.1.1"]) {
  for (const qos of [0, 1, 2] as const) {
    test(`QoS ${qos}, protocol ${protocol}: 3,000 messages arrive once each, in order`, async (t) => {
      const broker = await mosquitto(t, "max_inflight_messages 1000\n");
      const { intake, context } = await running(t, broker.url, { qos, protocol });
      await subscribed(context);
      await publish(broker.url, 3000, { qos });
      await until("all", () => intake.disk.payloads.length >= 3000);
      assert.deepEqual(numbers(intake), upTo(3000));
      assert.equal(context.readFigures()["protocol"], protocol === "auto" ? "5" : "3.1.1");
      if (qos === 2) await until("no identifier", () => intake.disk.packets.size === 0);
    });
  }
}

test("what is published while the source is away arrives when it is back", async (t) => {
  const broker = await mosquitto(t);
  const before = await running(t, broker.url);
  await subscribed(before.context);
  await before.source.close(1000);
  await publish(broker.url, 500);
  const { intake, context } = await running(t, broker.url);
  await until("all", () => intake.disk.payloads.length >= 500);
  assert.deepEqual(numbers(intake), upTo(500));
  assert.equal(context.readFigures()["sessionPresent"], true);
});

test("nothing is acknowledged that did not settle (planted fault): the broker still has it all", async (t) => {
  const broker = await mosquitto(t);
  const never = await running(t, broker.url, {}, true);
  await subscribed(never.context);
  await publish(broker.url, 200);
  await until("all", () => never.intake.waiting === 200);
  await never.source.close(100);
  const { intake } = await running(t, broker.url);
  await until("all again", () => intake.disk.payloads.length >= 200);
  assert.deepEqual(numbers(intake), upTo(200));
  assert.ok(intake.disk.messages.every(({ headers }) => headers["dup"] === "1"));
});

for (const [retained, protocol, expected] of [
  ["new-only", "5", [1, 0]],
  ["new-only", "3.1.1", [1, 0]],
  ["accept", "5", [1, 1]],
  ["accept", "3.1.1", [1, 1]],
  ["ignore", "5", [0, 0]],
  ["ignore", "3.1.1", [0, 0]],
] as const) {
  test(`retained: ${retained} on ${protocol} takes ${expected.join(" then ")} in`, async (t) => {
    const broker = await mosquitto(t);
    await publish(broker.url, 1, { retain: true });
    const more = { retained, protocol: protocol === "5" ? 5 : protocol };
    for (const [index, count] of expected.entries()) {
      const { source, intake, context } = await running(t, broker.url, more);
      await subscribed(context);
      // Retained messages come before what is published after the SUBACK.
      await publish(broker.url, 1, { from: 7 });
      await until("the fence", () => numbers(intake).includes(7));
      assert.equal(intake.disk.payloads.length, count + 1, `connection ${index + 1}`);
      await source.close(1000);
    }
  });
}

test("a broker that is killed and comes back heals without a restart", async (t) => {
  const broker = await mosquitto(t);
  const { intake, context } = await running(t, broker.url);
  await subscribed(context);
  await publish(broker.url, 10);
  await until("ten", () => intake.disk.payloads.length === 10);
  await broker.kill();
  await until("health", () => context.now().status === "degraded");
  assert.match(context.now().detail ?? "", /SOURCE_UNREACHABLE/);
  await broker.start();
  await subscribed(context);
  await publish(broker.url, 10, { from: 10 });
  await until("twenty", () => intake.disk.payloads.length === 20);
  assert.deepEqual(numbers(intake), upTo(20));
});

test("a source that starts before its broker waits for it", async (t) => {
  const port = await freePort();
  const { intake, context } = await running(t, `mqtt://127.0.0.1:${port}`);
  await until("health", () => context.now().detail?.includes("ECONNREFUSED") ?? false);
  const broker = await mosquitto(t, "", port);
  await subscribed(context);
  await publish(broker.url, 5);
  await until("all", () => intake.disk.payloads.length === 5);
});

test("a wrong password shows as SOURCE_REFUSED in health", async (t) => {
  requireProgram("mosquitto_passwd", "mosquitto");
  const folder = tempDir(t);
  const passwords = join(folder, "passwords");
  execFileSync("mosquitto_passwd", ["-b", "-c", passwords, "edge", "right"], { stdio: "ignore" });
  const port = await freePort();
  const config = `listener ${port} 127.0.0.1\nallow_anonymous false\npassword_file ${passwords}\n`;
  const broker = await mosquitto(t, config, port);
  const wrong = await running(t, broker.url, {
    username: "edge",
    password: "wrong",
    clientId: "w",
  });
  await until("health", () => wrong.context.now().detail?.startsWith("SOURCE_REFUSED") ?? false);
  const older = { username: "edge", password: "wrong", clientId: "o", protocol: "3.1.1" };
  const wrongOlder = await running(t, broker.url, older);
  await until(
    "health",
    () => wrongOlder.context.now().detail?.startsWith("SOURCE_REFUSED") ?? false,
  );
  const right = await running(t, broker.url, {
    username: "edge",
    password: "right",
    clientId: "r",
  });
  await subscribed(right.context);
});

test("TLS: a broker is believed by the CA that the configuration names, and no other", async (t) => {
  const folder = tempDir(t);
  makeCertificates(folder);
  const port = await freePort();
  const config = `listener ${port} 127.0.0.1
allow_anonymous true
cafile ${join(folder, "ca.pem")}
certfile ${join(folder, "server.pem")}
keyfile ${join(folder, "server.key")}
require_certificate true
`;
  await mosquitto(t, config, port);
  const url = `mqtts://localhost:${port}`;
  const ours = { cert: join(folder, "server.pem"), key: join(folder, "server.key") };
  const { context } = await running(t, url, { tls: { ca: join(folder, "ca.pem"), ...ours } });
  await subscribed(context);
  const trusting = await running(t, url, { clientId: "unknown-ca", tls: ours });
  const isRefused = (): boolean => trusting.context.now().detail?.includes("certificate") ?? false;
  await until("health", isRefused);
  const blind = await running(t, url, { clientId: "blind", tls: { verify: false, ...ours } });
  await subscribed(blind.context);
});

function makeCertificates(folder: string): void {
  requireProgram("openssl", "openssl");
  const at = (name: string): string => join(folder, name);
  const openssl = (...args: string[]): unknown =>
    execFileSync("openssl", args, { stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const ca = ["-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=test CA", "-days", "2"];
  openssl("req", "-x509", ...key, ...ca);
  openssl(
    "req",
    ...key,
    "-keyout",
    at("server.key"),
    "-out",
    at("server.csr"),
    "-subj",
    "/CN=localhost",
  );
  writeFileSync(at("names"), "subjectAltName=DNS:localhost\n");
  const signed = [
    "-in",
    at("server.csr"),
    "-CA",
    at("ca.pem"),
    "-CAkey",
    at("ca.key"),
    "-CAcreateserial",
  ];
  openssl(
    "x509",
    "-req",
    ...signed,
    "-out",
    at("server.pem"),
    "-days",
    "2",
    "-extfile",
    at("names"),
  );
}

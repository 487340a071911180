import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Packet } from "mqtt-packet";
import { HoldfastError } from "../../src/core/errors.ts";
import { createMqttSource } from "../../src/source/mqtt.ts";
import { heldIntake } from "../support/held-intake.ts";
import { recordingContext } from "../support/recording-context.ts";
import { scriptedBroker, type ScriptedClient } from "../support/scripted-broker.ts";
import { mqttOptions, startedSource } from "../support/started-source.ts";
import { until } from "../support/until.ts";

const message = (messageId: number): Packet => ({
  cmd: "publish",
  topic: "load/d1",
  payload: "{}",
  qos: 1,
  dup: false,
  retain: false,
  messageId,
});
const connectOf = (client: ScriptedClient): Extract<Packet, { cmd: "connect" }> => {
  const packet = client.of("connect")[0];
  if (packet?.cmd !== "connect") throw new Error("No CONNECT");
  return packet;
};
const gauge = 'holdfast_source_connected{source="load"}';

test("open() asks for a session that outlives the connection, on MQTT 5", async (t) => {
  const { broker, context } = await startedSource(t, {
    username: "edge",
    password: "secret words",
    topics: ["load/{device}", "alarm/#"],
  });
  assert.equal(context.now().status, "degraded");
  const client = await broker.accept(1);
  await until("health", () => context.now().status === "ok");
  const packet = connectOf(client);
  assert.equal(packet.protocolVersion, 5);
  assert.equal(packet.clean, false);
  assert.equal(packet.clientId, "holdfast-d1-load");
  assert.equal(packet.keepalive, 30);
  assert.equal(packet.username, "edge");
  assert.equal(packet.password?.toString(), "secret words");
  assert.equal(packet.properties?.sessionExpiryInterval, 7 * 86_400);
  assert.equal(packet.properties?.receiveMaximum, 2048);
  assert.equal(packet.properties?.maximumPacketSize, 1_179_648);
  const subscribe = client.of("subscribe")[0];
  assert.ok(subscribe?.cmd === "subscribe");
  const asked = subscribe.subscriptions.map(({ topic, qos, rh }) => ({ topic, qos, rh }));
  assert.deepEqual(asked, [
    { topic: "load/+", qos: 1, rh: 1 },
    { topic: "alarm/#", qos: 1, rh: 1 },
  ]);
  assert.equal(context.sums.get(gauge), 1);
  assert.equal(context.readFigures()["sessionPresent"], false);
  assert.ok(!JSON.stringify([context.lines, context.reports]).includes("secret words"));
});

test("open() refuses a password file that cannot be read, before it connects", async (t) => {
  const broker = await scriptedBroker(t);
  const options = mqttOptions(broker.url, { password: { file: "/nonexistent/password" } });
  const source = createMqttSource(recordingContext("load"), options, { device: "d1" });
  const refused = (error: unknown): boolean =>
    error instanceof HoldfastError && error.code === "SECRET_UNREADABLE" && error.kind === "config";
  await assert.rejects(source.open(heldIntake()), refused);
  assert.equal(broker.clients.length, 0);
  await source.close(0);
  await source.close(0);
});

const olderAnswers: Record<string, (client: ScriptedClient) => void> = {
  "reason 0x84": (client) =>
    client.send({ cmd: "connack", sessionPresent: false, reasonCode: 0x84 }),
  "return code 1 of 3.1.1": (client) => client.socket.write(Buffer.from([0x20, 2, 0, 1])),
  "hanging up": (client) => client.socket.end(),
};
for (const [answer, act] of Object.entries(olderAnswers)) {
  test(`protocol auto falls back to 3.1.1 when the broker answers MQTT 5 by ${answer}`, async (t) => {
    const { broker, context, reconnect } = await startedSource(t);
    await until("a connection", () => broker.clients.length === 1);
    const first = broker.clients[0];
    assert.ok(first);
    await first.received("connect");
    act(first);
    await reconnect(2);
    const second = await broker.accept(2, { sessionPresent: true });
    assert.equal(connectOf(second).protocolVersion, 4);
    assert.equal(connectOf(second).clean, false);
    await until("health", () => context.now().status === "ok");
    assert.equal(context.readFigures()["protocol"], "3.1.1");
  });
}

test("protocol auto asks for MQTT 5 again after an hour on 3.1.1, not sooner", async (t) => {
  const { broker, clock, reconnect } = await startedSource(t, { keepAlive: "18h" });
  await until("a connection", () => broker.clients.length === 1);
  await broker.clients[0]?.received("connect");
  broker.clients[0]?.send({ cmd: "connack", sessionPresent: false, reasonCode: 0x84 });
  await reconnect(2);
  const second = await broker.accept(2);
  second.socket.destroy();
  await reconnect(3);
  const third = await broker.accept(3);
  assert.equal(connectOf(third).protocolVersion, 4);
  clock.advance(3_600_000);
  third.socket.destroy();
  await reconnect(4);
  await broker.clients[3]?.received("connect");
  assert.equal(connectOf(broker.clients[3] as ScriptedClient).protocolVersion, 5);
});

test("a broker that is away is tried again for ever, each time later, up to a minute, and told once", async (t) => {
  const gone = await scriptedBroker(t);
  const { context, clock, broker } = await startedSource(
    t,
    { protocol: "3.1.1" },
    { broker: gone },
  );
  broker.onClient = (client) => client.socket.destroy();
  const delays: number[] = [];
  for (let attempt = 1; attempt <= 9; attempt++) {
    await until(`failure ${attempt}`, () => context.reports.length === attempt + 1);
    const before = clock.monotonic;
    await until("the next attempt", () => {
      if (broker.clients.length > attempt) return true;
      clock.advance(1000);
      return false;
    });
    delays.push(clock.monotonic - before);
  }
  const last = delays.at(-1) ?? 0;
  // Half is fixed, half drawn (0.5): three quarters of 1 s … 60 s. The loop may step on while a socket connects.
  assert.ok((delays[0] ?? 0) < 5000 && last >= 45_000 && last < 60_000, delays.join());
  assert.equal(context.now().status, "degraded");
  assert.match(
    context.now().detail ?? "",
    /^SOURCE_UNREACHABLE: .*127\.0\.0\.1.*next attempt is within/,
  );
  assert.equal(context.lines.filter(({ level }) => level === "warn").length, 1);
});

test("a refused password shows as SOURCE_REFUSED with the broker's words, and heals", async (t) => {
  const { broker, context, reconnect } = await startedSource(t, {
    username: "edge",
    password: "wrong",
  });
  await until("a connection", () => broker.clients.length === 1);
  await broker.clients[0]?.received("connect");
  const properties = { reasonString: "try harder" };
  broker.clients[0]?.send({ cmd: "connack", sessionPresent: false, reasonCode: 0x86, properties });
  await until("health", () => context.now().detail?.includes("SOURCE_REFUSED") ?? false);
  assert.match(context.now().detail ?? "", /bad user name or password \(try harder\)/);
  assert.equal(context.sums.get(gauge), 0);
  await reconnect(2);
  await broker.accept(2);
  await until("health", () => context.now().status === "ok");
});

test("a session that another client took over is told, and not fought for each second", async (t) => {
  const { broker, context, clock } = await startedSource(t);
  const client = await broker.accept(1);
  client.send(message(1), { cmd: "disconnect", reasonCode: 0x8e });
  await until(
    "health",
    () => context.now().detail?.includes("another client uses this client ID") ?? false,
  );
  clock.advance(10_000);
  await delay(50);
  assert.equal(broker.clients.length, 1);
});

test("a refused topic shows in health by its name, is asked for again, and heals", async (t) => {
  const { broker, context, clock } = await startedSource(t, {
    topics: ["load/{device}", "secret/#"],
    keepAlive: "18h",
  });
  const client = await broker.accept(1, { granted: [1, 0x87] });
  await until("health", () => context.now().detail?.includes("secret/#") ?? false);
  assert.match(context.now().detail ?? "", /refuses topic secret\/#: not authorized/);
  assert.equal(context.sums.get(gauge), 1);
  clock.advance(60_000);
  const again = await client.received("subscribe", 2);
  assert.deepEqual(again.cmd === "subscribe" && again.subscriptions.map(({ topic }) => topic), [
    "secret/#",
  ]);
  client.send({ cmd: "suback", messageId: again.messageId ?? 0, granted: [1] });
  await until("health", () => context.now().status === "ok");
});

test("a lower QoS than was asked for shows in health", async (t) => {
  const { broker, context } = await startedSource(t, { qos: 2 });
  await broker.accept(1, { granted: [1] });
  await until(
    "health",
    () => context.now().detail?.includes("grants topic load/+ QoS 1, not 2") ?? false,
  );
});

test("keep-alive: silence is probed, and a broker that does not answer is given up", async (t) => {
  const { broker, clock, context, reconnect } = await startedSource(t, { keepAlive: "10s" });
  const client = await broker.accept(1);
  await until("health", () => context.now().status === "ok");
  clock.advance(7500);
  await client.received("pingreq");
  client.send({ cmd: "pingresp" });
  await delay(50);
  clock.advance(10_000);
  await client.received("pingreq", 2);
  clock.advance(20_000);
  await until("the end", () => client.isClosed);
  assert.match(context.now().detail ?? "", /no answer to keep-alive/);
  await reconnect(2);
  await broker.accept(2, { sessionPresent: true });
});

test("keep-alive: a paused socket hears nothing, which proves nothing", async (t) => {
  const { broker, clock, intake, context } = await startedSource(t, { keepAlive: "10s" });
  const client = await broker.accept(1);
  intake.hasSpace = false;
  client.send(message(1));
  await until("the pause", () => context.readFigures()["paused"] === true);
  clock.advance(120_000);
  await client.received("pingreq", 10);
  assert.equal(client.isClosed, false);
  intake.roomReturns();
  clock.advance(9000);
  await delay(50);
  assert.equal(client.isClosed, false);
});

test("a connection that is not made within connectTimeout is given up", async (t) => {
  const { broker, clock, context } = await startedSource(t, { connectTimeout: "5s" });
  await until("a connection", () => broker.clients.length === 1);
  await broker.clients[0]?.received("connect");
  clock.advance(5000);
  await until("the end", () => broker.clients[0]?.isClosed ?? false);
  assert.match(context.now().detail ?? "", /timed out/);
});

test("a malformed packet ends the connection with MQTT 5's reason, and the next one is made", async (t) => {
  const { broker, context, reconnect } = await startedSource(t);
  const client = await broker.accept(1);
  await until("health", () => context.now().status === "ok");
  // PUBREL with reserved flags 0 [MQTT-3.6.1-1].
  client.socket.write(Buffer.from([0x60, 2, 0, 1]));
  const packet = await client.received("disconnect");
  assert.equal(packet.cmd === "disconnect" && packet.reasonCode, 0x81);
  assert.match(context.now().detail ?? "", /malformed packet/);
  await reconnect(2);
  await broker.accept(2, { sessionPresent: true });
  await until("health", () => context.now().status === "ok");
});

test("a PUBLISH larger than an event may be is acknowledged, told, counted, and not in the way", async (t) => {
  const { broker, context, intake } = await startedSource(t, { protocol: "3.1.1", qos: 2 });
  intake.commitAlways();
  const client = await broker.accept(1, { sessionPresent: true });
  await until("health", () => context.now().status === "ok");
  const payload = "x".repeat(3_000_000);
  client.send(message(1), { ...message(2), payload } as Packet, message(3));
  client.send({ ...message(4), payload, qos: 2 } as Packet, message(5));
  await client.received("puback", 4);
  assert.deepEqual(client.ids("puback"), [1, 2, 3, 5]);
  client.send({ cmd: "pubrel", messageId: (await client.received("pubrec")).messageId ?? 0 });
  await client.received("pubcomp");
  assert.equal(intake.disk.payloads.length, 3);
  assert.equal(context.sums.get('holdfast_source_events_total{source="load",status="skipped"}'), 2);
  assert.equal(context.readFigures()["oversized"], 2);
  const told = context.lines.filter(({ message: line }) =>
    /it has 30000\d\d bytes, at most/.test(line),
  );
  assert.equal(told.length, 1);
});

test("close() takes no more in, acknowledges what settles within its grace, and says goodbye", async (t) => {
  const { broker, intake, source, context } = await startedSource(t);
  const client = await broker.accept(1);
  await until("health", () => context.now().status === "ok");
  client.send(message(1), message(2));
  await until("two messages", () => intake.waiting === 2);
  const asked = intake.asked;
  const closing = source.close(5000);
  assert.equal(source.close(5000), closing);
  assert.equal(intake.asked, asked + 1);
  client.send(message(3));
  await delay(50);
  assert.equal(intake.waiting, 2);
  intake.commit();
  await closing;
  const goodbye = await client.received("disconnect");
  assert.deepEqual(client.ids("puback"), [1, 2]);
  // MQTT 5, 3.14.2.2.2: without a new interval the session is kept as it was agreed.
  assert.equal(goodbye.cmd === "disconnect" && goodbye.properties, undefined);
  assert.equal(context.sums.get(gauge), 0);
  await until("the end", () => client.isClosed);
});

test("close() does not wait longer than its grace", async (t) => {
  const { broker, intake, source, clock, context } = await startedSource(t);
  const client = await broker.accept(1);
  await until("health", () => context.now().status === "ok");
  client.send(message(1));
  await until("a message", () => intake.waiting === 1);
  const closing = source.close(2000);
  clock.advance(2000);
  await closing;
  await client.received("disconnect");
  assert.deepEqual(client.ids("puback"), []);
});

test("close() while the broker is away ends at once and leaves no timer", async (t) => {
  const broker = await scriptedBroker(t);
  broker.onClient = (client) => client.socket.destroy();
  const { source, clock, context } = await startedSource(t, { protocol: "3.1.1" }, { broker });
  await until("a failure", () => context.now().detail?.includes("next attempt") ?? false);
  await source.close(5000);
  clock.advance(1000);
  assert.equal(clock.waiting, 0);
});

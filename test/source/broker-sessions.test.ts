import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Packet } from "mqtt-packet";
import { BrokerIdentifiers } from "../../src/source/broker-identifiers.ts";
import {
  rawClient,
  startedBroker,
  type RawClient,
  type StartedBroker,
} from "../support/started-broker.ts";
import { until } from "../support/until.ts";

const subscribe = (topic: string, qos: 0 | 1 | 2 = 1): Packet => ({
  cmd: "subscribe",
  messageId: 1,
  subscriptions: [{ topic, qos }],
});
const payloads = (client: RawClient): string[] =>
  client.of("publish").map((packet) => (packet.cmd === "publish" ? String(packet.payload) : ""));

/** A broker, a publisher, and a subscriber that has left its session behind. */
async function withAbsentee(
  t: TestContext,
  more: Readonly<Record<string, unknown>> = {},
): Promise<StartedBroker & { publisher: RawClient; absentee: Record<string, unknown> }> {
  const broker = await startedBroker(t, more);
  broker.intake.commitAlways();
  const absentee = { clientId: "absentee", clean: false };
  const first = await rawClient(t, broker.port, absentee);
  first.send(subscribe("load/#"));
  await first.received("suback");
  first.send({ cmd: "disconnect" });
  await first.gone();
  const publisher = await rawClient(t, broker.port, { clientId: "publisher" });
  return { ...broker, publisher, absentee };
}

test("a subscriber that was away gets what came meanwhile, in order, once", async (t) => {
  const { port, publisher, absentee, context } = await withAbsentee(t);
  publisher.publish(1);
  publisher.publish(2, { qos: 2 });
  publisher.publish(3, { qos: 0 });
  await publisher.received("puback");
  await publisher.received("pubrec");
  await publisher.settled();
  const back = await rawClient(t, port, absentee);
  await back.received("publish", 2);
  assert.deepEqual(payloads(back), ['{"n":1}', '{"n":2}']);
  for (const packet of back.of("publish")) {
    if (packet.cmd !== "publish" || packet.messageId === undefined) assert.fail("No identifier");
    const cmd = packet.qos === 2 ? "pubrec" : "puback";
    back.send({ cmd, messageId: packet.messageId });
    if (packet.qos === 2) {
      await back.received("pubrel");
      back.send({ cmd: "pubcomp", messageId: packet.messageId });
    }
  }
  await back.settled();
  assert.equal(context.readFigures()["keptBytes"], 0);
  back.socket.destroy();
  const third = await rawClient(t, port, absentee);
  await third.settled();
  assert.deepEqual(third.of("publish"), []);
  assert.deepEqual(third.of("pubrel"), []);
});

test("what a subscriber did not acknowledge is sent again on its next connection", async (t) => {
  const { port, publisher, absentee } = await withAbsentee(t);
  publisher.publish(1);
  await publisher.received("puback");
  const back = await rawClient(t, port, absentee);
  await back.received("publish");
  back.socket.destroy();
  const again = await rawClient(t, port, absentee);
  await again.received("publish");
  assert.deepEqual(payloads(again), ['{"n":1}']);
});

test("limits.queue: the first messages are kept for a subscriber, the rest is counted", async (t) => {
  const { port, publisher, absentee, context } = await withAbsentee(t, { limits: { queue: 3 } });
  for (let id = 1; id <= 5; id++) publisher.publish(id);
  await publisher.received("puback", 5);
  await publisher.settled();
  await until("the count", () => context.readFigures()["notKept"] === 2);
  const back = await rawClient(t, port, absentee);
  await back.received("publish", 3);
  await back.settled();
  assert.deepEqual(payloads(back), ['{"n":1}', '{"n":2}', '{"n":3}']);
});

test("limits.queue: a connected subscriber gets what its queue has no place for", async (t) => {
  const { port, publisher, absentee } = await withAbsentee(t, { limits: { queue: 3 } });
  const back = await rawClient(t, port, absentee);
  // None is acknowledged, so the queue is full after three.
  for (let id = 1; id <= 10; id++) publisher.publish(id);
  await back.received("publish", 10);
  assert.equal(back.isClosed(), false);
});

test("limits.memory bounds what is kept, retained messages and queues together", async (t) => {
  const { port, publisher, context } = await withAbsentee(t, { limits: { memory: "10KiB" } });
  const payload = "x".repeat(2000);
  for (let id = 1; id <= 10; id++) {
    publisher.publish(id, { topic: `load/${id}`, payload, retain: true });
  }
  await publisher.received("puback", 10);
  await until("the count", () => context.readFigures()["notKept"] === 16);
  assert.ok(Number(context.readFigures()["keptBytes"]) <= 10 * 1024);
  const reader = await rawClient(t, port, { clientId: "reader" });
  reader.send(subscribe("load/+"));
  await reader.received("publish", 2);
  for (let id = 1; id <= 2; id++) {
    publisher.publish(20 + id, { topic: `load/${id}`, payload: "", retain: true });
  }
  await publisher.received("puback", 12);
  await publisher.settled();
  const late = await rawClient(t, port, { clientId: "late" });
  late.send(subscribe("load/+"));
  await late.received("suback");
  await late.settled();
  assert.deepEqual(late.of("publish"), []);
});

test("limits.sessions: whoever is away the longest is forgotten, and told so", async (t) => {
  const { port, context } = await startedBroker(t, { limits: { sessions: 2 } });
  const leave = async (clientId: string): Promise<boolean> => {
    const client = await rawClient(t, port, { clientId, clean: false });
    const connack = client.of("connack")[0];
    client.send(subscribe("load/#"));
    await client.received("suback");
    client.send({ cmd: "disconnect" });
    await client.gone();
    await until("the broker's turn", () => context.readFigures()["clients"] === 0);
    return connack?.cmd === "connack" && connack.sessionPresent;
  };
  assert.equal(await leave("a"), false);
  assert.equal(await leave("b"), false);
  assert.equal(await leave("a"), true);
  assert.equal(await leave("c"), false);
  assert.equal(context.readFigures()["sessions"], 2);
  assert.equal(await leave("a"), true);
  assert.equal(await leave("b"), false);
});

test("a clean connection ends the session and what was kept for it", async (t) => {
  const { port, publisher, absentee, context } = await withAbsentee(t);
  publisher.publish(1);
  await publisher.received("puback");
  await publisher.settled();
  await until("the message to be kept", () => Number(context.readFigures()["keptBytes"]) > 0);
  const clean = await rawClient(t, port, { ...absentee, clean: true });
  await clean.settled();
  assert.deepEqual(clean.of("publish"), []);
  assert.equal(context.readFigures()["keptBytes"], 0);
  assert.equal(context.readFigures()["sessions"], 0);
});

test("BrokerIdentifiers forgets clients that are away before it refuses one that is not", () => {
  const online = new Set(["here", "busy"]);
  const identifiers = new BrokerIdentifiers((id) => online.has(id), 4);
  assert.ok(identifiers.add("away", 1));
  assert.ok(identifiers.add("away", 2));
  assert.ok(identifiers.add("busy", 1));
  assert.ok(identifiers.add("here", 1));
  assert.ok(identifiers.add("here", 2));
  assert.equal(identifiers.size, 3);
  assert.equal(identifiers.has("away"), false);
  assert.ok(identifiers.add("here", 3));
  assert.equal(identifiers.add("here", 4), null);
  identifiers.end("here", 1);
  assert.ok(identifiers.add("here", 4));
  identifiers.forget("busy");
  assert.equal(identifiers.size, 3);
});

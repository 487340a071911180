import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import mqtt from "mqtt";
import { publishPacket, rawClient, startedBroker } from "../support/started-broker.ts";
import { until } from "../support/until.ts";

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

test("PUBACK is not sent before settled, and is sent then", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.publish(7);
  await until("the message", () => intake.waiting === 1);
  await client.settled();
  await delay(50);
  assert.deepEqual(client.ids("puback"), []);
  intake.commit();
  await client.received("puback");
  assert.deepEqual(client.ids("puback"), [7]);
  assert.deepEqual(intake.disk.payloads, ['{"n":7}']);
  assert.deepEqual(intake.disk.messages[0]?.headers, { topic: "load/d1" });
});

test("a hundred publishes of one client are at the intake before the first settles, in order", async (t) => {
  const { intake, port, context } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.send(...numbers(1, 50).map((id) => publishPacket(id)));
  await until("the first segment", () => intake.waiting === 50);
  client.send(...numbers(51, 99).map((id) => publishPacket(id)));
  await until("the second segment", () => intake.waiting === 99);
  client.publish(100);
  await until("the last message", () => intake.waiting === 100);
  assert.equal(context.readFigures()["inFlight"], 100);
  assert.deepEqual(client.ids("puback"), []);
  intake.commit(60);
  await client.received("puback", 60);
  await client.settled();
  assert.deepEqual(client.ids("puback"), numbers(1, 60));
  intake.commit();
  await client.received("puback", 100);
  assert.deepEqual(client.ids("puback"), numbers(1, 100));
  assert.deepEqual(
    intake.disk.payloads,
    numbers(1, 100).map((id) => `{"n":${id}}`),
  );
});

test("a client of the mqtt package has a hundred publishes under way", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`);
  t.after(() => client.endAsync(true));
  let acknowledged = 0;
  for (const id of numbers(1, 100)) {
    client.publish("load/d1", `{"n":${id}}`, { qos: 1 }, (error) => {
      assert.ifError(error);
      acknowledged++;
    });
  }
  await until("all publishes", () => intake.waiting === 100);
  assert.equal(acknowledged, 0);
  intake.commit();
  await until("all acknowledgements", () => acknowledged === 100);
});

test("packets that arrive in pieces, and a large one, are put together", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  const { default: mqttPacket } = await import("mqtt-packet");
  const large = `"${"x".repeat(300_000)}"`;
  const bytes = Buffer.concat([
    mqttPacket.generate(publishPacket(1)),
    mqttPacket.generate(publishPacket(2, { payload: large })),
    mqttPacket.generate(publishPacket(3)),
  ]);
  // Cuts fixed headers, lengths, topics and payloads.
  for (let at = 0; at < 40; at++) {
    client.socket.write(bytes.subarray(at, at + 1));
    await delay(1);
  }
  client.socket.write(bytes.subarray(40));
  await until("three messages", () => intake.waiting === 3);
  intake.commit();
  assert.deepEqual(intake.disk.payloads, ['{"n":1}', large, '{"n":3}']);
});

test("PUBREC is not sent before settled; PUBCOMP follows PUBREL", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.publish(9, { qos: 2 });
  await until("the message", () => intake.waiting === 1);
  await client.settled();
  await delay(50);
  assert.deepEqual(client.ids("pubrec"), []);
  assert.deepEqual(client.ids("pubcomp"), []);
  intake.commit();
  await client.received("pubrec");
  client.send({ cmd: "pubrel", messageId: 9 });
  await client.received("pubcomp");
  assert.equal(intake.waiting, 0);
  assert.equal(intake.disk.payloads.length, 1);
});

test("QoS 2: a repetition is answered and not taken in again, until PUBREL ends it", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.publish(9, { qos: 2 });
  await until("the message", () => intake.waiting === 1);
  client.publish(9, { qos: 2, dup: true });
  await client.settled();
  assert.equal(intake.waiting, 1);
  intake.commit();
  await client.received("pubrec", 2);
  client.publish(9, { qos: 2, dup: true });
  await client.received("pubrec", 3);
  client.send({ cmd: "pubrel", messageId: 9 });
  await client.received("pubcomp");
  client.publish(9, { qos: 2, payload: '"another"' });
  await until("the next message", () => intake.waiting === 1);
  intake.commit();
  assert.deepEqual(intake.disk.payloads, ['{"n":9}', '"another"']);
});

test("QoS 2: a repetition on a new connection is not taken in again, and the session is there", async (t) => {
  const { intake, port } = await startedBroker(t);
  const first = await rawClient(t, port, { clean: false });
  first.publish(5, { qos: 2 });
  await until("the message", () => intake.waiting === 1);
  first.socket.destroy();
  const second = await rawClient(t, port, { clean: false });
  const connack = second.of("connack")[0];
  assert.ok(connack?.cmd === "connack" && connack.sessionPresent);
  second.publish(5, { qos: 2, dup: true });
  await second.settled();
  assert.equal(intake.waiting, 1);
  assert.deepEqual(second.ids("pubrec"), []);
  intake.commit();
  await second.received("pubrec");
  assert.deepEqual(intake.disk.payloads, ['{"n":5}']);
  assert.deepEqual(second.of("publish"), []);
});

test("QoS 2: an identifier means another message where CONNACK said that there is no session", async (t) => {
  const { intake, port } = await startedBroker(t);
  intake.commitAlways();
  const first = await rawClient(t, port, { clean: false });
  first.publish(5, { qos: 2 });
  await first.received("pubrec");
  first.socket.destroy();
  const second = await rawClient(t, port, { clean: true });
  second.publish(5, { qos: 2, payload: '"other"' });
  await second.received("pubrec");
  assert.deepEqual(intake.disk.payloads, ['{"n":5}', '"other"']);
});

test("a publish that is sent again at QoS 1 is marked dup", async (t) => {
  const { intake, port } = await startedBroker(t, { topics: ["load/{device}"] });
  intake.commitAlways();
  const client = await rawClient(t, port);
  client.publish(1);
  client.publish(1, { dup: true });
  await client.received("puback", 2);
  const [plain, again] = intake.disk.messages;
  assert.deepEqual(plain?.headers, { topic: "load/d1", device: "d1" });
  assert.deepEqual(plain?.fields, ["device"]);
  assert.deepEqual(again?.headers, { topic: "load/d1", device: "d1", dup: "1" });
});

test("QoS 0 enters, and all of it does when its sender hangs up at once", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.send(...numbers(1, 500).map((id) => publishPacket(id, { qos: 0 })));
  client.send({ cmd: "disconnect" });
  client.socket.end();
  await until("all of them", () => intake.waiting === 500);
});

test("a fast sender gets a hundred messages a turn, so that timers and others are not held up", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  let [before, most, isDone] = [0, 0, false];
  const look = (): void => {
    most = Math.max(most, intake.waiting - before);
    before = intake.waiting;
    if (!isDone) setImmediate(look);
  };
  look();
  client.send(...numbers(1, 20_000).map((id) => publishPacket(id, { qos: 0 })));
  await until("all of them", () => intake.waiting === 20_000);
  isDone = true;
  assert.ok(most <= 200, `${most} in one turn`);
});

test("without room publishes wait, pings are answered, and order is kept when room returns", async (t) => {
  const { intake, port, context } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.publish(1);
  await until("the first", () => intake.waiting === 1);
  intake.hasSpace = false;
  client.send(...numbers(2, 20).map((id) => publishPacket(id, { qos: id % 2 })));
  await client.settled();
  assert.equal(intake.waiting, 1);
  assert.equal(context.readFigures()["waiting"], 19);
  intake.roomReturns();
  assert.equal(intake.waiting, 20);
  intake.commit();
  assert.deepEqual(
    intake.disk.payloads,
    numbers(1, 20).map((id) => `{"n":${id}}`),
  );
  await client.received("puback", 10);
});

test("without room a client's socket is paused at a thousand publishes, others' are not", async (t) => {
  const { intake, port, context } = await startedBroker(t);
  intake.hasSpace = false;
  const flood = await rawClient(t, port, { clientId: "flood" });
  flood.send(...numbers(1, 3000).map((id) => publishPacket(id)));
  await until("the bound", () => context.readFigures()["waiting"] === 1000);
  const other = await rawClient(t, port, { clientId: "other" });
  other.publish(1);
  await other.settled();
  await delay(50);
  assert.equal(context.readFigures()["waiting"], 1001);
  intake.roomReturns();
  await until("no more than the bound", () => intake.waiting === 1001);
  assert.ok(intake.asked > 0, "a full window asks for a commit");
  intake.commitAlways();
  await flood.received("puback", 3000);
  assert.deepEqual(flood.ids("puback"), numbers(1, 3000));
});

test("without room large payloads stop at eight megabytes over all clients", async (t) => {
  const { intake, port, context } = await startedBroker(t);
  intake.hasSpace = false;
  const payload = `"${"x".repeat(500_000)}"`;
  const clients = await Promise.all(
    numbers(1, 3).map((id) => rawClient(t, port, { clientId: `c${id}` })),
  );
  for (const client of clients) {
    client.send(...numbers(1, 10).map((id) => publishPacket(id, { payload })));
  }
  const bytes = (): number => Number(context.readFigures()["waitingBytes"]);
  await until("the bound", () => bytes() >= 8 * 1024 * 1024);
  await delay(100);
  // Each gate was open when the bound was not reached, so each may have let one packet more in.
  const bound = 8 * 1024 * 1024 + clients.length * payload.length;
  assert.ok(bytes() <= bound, `${bytes()} bytes wait`);
  intake.commitAlways();
  intake.roomReturns();
  await Promise.all(clients.map((client) => client.received("puback", 10)));
});

test("a packet beyond maxPayload ends its connection and no other", async (t) => {
  const { intake, port, context } = await startedBroker(t, { limits: { maxPayload: "1KiB" } });
  intake.commitAlways();
  const [bad, good] = [
    await rawClient(t, port, { clientId: "bad" }),
    await rawClient(t, port, { clientId: "good" }),
  ];
  bad.publish(1, { payload: "x".repeat(80_000) });
  await bad.gone();
  good.publish(2);
  await good.received("puback");
  assert.equal(intake.disk.payloads.length, 1);
  assert.match(JSON.stringify(context.lines), /packet of 80011 bytes/);
});

test("other topics pass between clients and do not enter; $SYS is the broker's own", async (t) => {
  const { intake, port } = await startedBroker(t, { topics: ["sensors/#"] });
  const client = await rawClient(t, port);
  client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "#", qos: 0 }] });
  await client.received("suback");
  client.publish(1, { topic: "other/x" });
  await client.received("puback");
  await client.received("publish");
  assert.equal(intake.waiting, 0);
  client.publish(2, { topic: "sensors/x" });
  await until("the message", () => intake.waiting === 1);
  // Nobody sees what is not on disk.
  await client.settled();
  assert.equal(client.of("publish").length, 1);
  intake.commit();
  await client.received("publish", 2);
  client.publish(3, { topic: "$SYS/x" });
  await client.gone();
  assert.equal(intake.disk.payloads.length, 1);
});

test("what aedes tells under $SYS does not enter the stream", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.send({ cmd: "subscribe", messageId: 1, subscriptions: [{ topic: "$SYS/#", qos: 0 }] });
  await client.received("suback");
  await rawClient(t, port, { clientId: "c2" });
  await client.received("publish");
  assert.equal(intake.waiting, 0);
});

test("a will enters the stream when its client dies", async (t) => {
  const { intake, port } = await startedBroker(t);
  const will = { topic: "load/gone", payload: Buffer.from("{}"), qos: 1, retain: false };
  const client = await rawClient(t, port, { will });
  client.socket.destroy();
  await until("the will", () => intake.waiting === 1);
  intake.commit();
  assert.deepEqual(intake.disk.messages[0]?.headers, { topic: "load/gone" });
});

test("close() stops taking in, and still acknowledges what settles in time", async (t) => {
  const { intake, port, source, context } = await startedBroker(t);
  const client = await rawClient(t, port);
  client.publish(1);
  await until("the message", () => intake.waiting === 1);
  const closing = source.close(5000);
  assert.equal(source.close(5000), closing);
  client.publish(2);
  await delay(50);
  assert.equal(intake.waiting, 1);
  intake.commit();
  await closing;
  await client.gone();
  assert.deepEqual(client.ids("puback"), [1]);
  assert.equal(context.sums.get('holdfast_source_connected{source="listen"}'), 0);
  await assert.rejects(rawClient(t, port), /closed before/);
});

test("close() gives up after its grace, and publishes no will", async (t) => {
  const { intake, port, source } = await startedBroker(t);
  const will = { topic: "load/gone", payload: Buffer.from("{}"), qos: 0, retain: false };
  const client = await rawClient(t, port, { will });
  client.publish(1);
  await until("the message", () => intake.waiting === 1);
  await source.close(30);
  await client.gone();
  assert.deepEqual(client.ids("puback"), []);
  assert.equal(intake.waiting, 1);
});

test("a lock-step publisher is learnt: its next message asks for a commit at once", async (t) => {
  const { intake, port } = await startedBroker(t);
  const client = await rawClient(t, port);
  let id = 0;
  const step = async (): Promise<void> => {
    client.publish(++id);
    await until("the message", () => intake.waiting === 1);
  };
  const linger = async (): Promise<void> => {
    await delay(200);
    intake.commit();
    await client.received("puback", id);
  };
  await step();
  await linger();
  await step();
  assert.equal(intake.asked, 0);
  await linger();
  await step();
  assert.equal(intake.asked, 1);
});

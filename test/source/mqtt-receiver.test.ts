import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import type { Packet } from "mqtt-packet";
import { heldBytesMax } from "../../src/source/mqtt-receiver.ts";
import { heldIntake } from "../support/held-intake.ts";
import { startedSource } from "../support/started-source.ts";
import { until } from "../support/until.ts";

function publish(
  messageId: number,
  more: { qos?: 0 | 1 | 2; dup?: boolean; retain?: boolean; topic?: string; payload?: string } = {},
): Packet {
  const message = { qos: 1 as const, dup: false, retain: false, topic: "load/d1", ...more };
  return { cmd: "publish", payload: `{"n":${messageId}}`, messageId, ...message };
}

/** Whatever was under way on the loopback has arrived. */
async function settledNetwork(): Promise<void> {
  for (let count = 0; count < 20; count++) await turn();
  await new Promise((resolve) => setTimeout(resolve, 20));
}

test("PUBACKs wait for the commit and leave in the order of the PUBLISHes [MQTT-4.6.0-2]", async (t) => {
  const { broker, intake } = await startedSource(t);
  const client = await broker.accept(1);
  client.send(...[5, 3, 9, 1, 7].map((id) => publish(id)));
  await until("five messages", () => intake.waiting === 5);
  await settledNetwork();
  assert.deepEqual(client.ids("puback"), []);
  intake.commit(2);
  await client.received("puback", 2);
  await settledNetwork();
  assert.deepEqual(client.ids("puback"), [5, 3]);
  intake.commit();
  await client.received("puback", 5);
  assert.deepEqual(client.ids("puback"), [5, 3, 9, 1, 7]);
  assert.deepEqual(intake.disk.messages[0]?.headers, { topic: "load/d1", device: "d1" });
  assert.deepEqual(intake.disk.messages[0]?.fields, ["device"]);
});

test("PUBACKs are never sent when nothing settles (planted fault)", async (t) => {
  const { broker, intake, clock, source, reconnect } = await startedSource(t, { keepAlive: "10s" });
  const client = await broker.accept(1);
  client.send(...Array.from({ length: 500 }, (_, index) => publish(index + 1)));
  await until("500 messages", () => intake.waiting === 500);
  clock.advance(60_000);
  client.socket.destroy();
  await reconnect(2);
  const again = await broker.accept(2, { sessionPresent: true });
  again.send(...Array.from({ length: 500 }, (_, index) => publish(index + 1, { dup: true })));
  await until("500 more", () => intake.waiting === 1000);
  const closing = source.close(5000);
  clock.advance(5000);
  await closing;
  await again.received("disconnect");
  for (const seen of broker.clients) assert.deepEqual(seen.ids("puback"), []);
});

test("acknowledgements of a lost connection are forgotten, and what comes again is marked dup", async (t) => {
  const { broker, intake, reconnect } = await startedSource(t);
  const first = await broker.accept(1);
  first.send(publish(1), publish(2));
  await until("two messages", () => intake.waiting === 2);
  first.socket.destroy();
  await reconnect(2);
  const second = await broker.accept(2, { sessionPresent: true });
  intake.commit();
  await settledNetwork();
  assert.deepEqual(second.ids("puback"), []);
  second.send(publish(1, { dup: true }), publish(2, { dup: true }), publish(3));
  await until("three messages", () => intake.waiting === 3);
  intake.commit();
  await second.received("puback", 3);
  assert.deepEqual(second.ids("puback"), [1, 2, 3]);
  const marks = intake.disk.messages.map(({ headers }) => headers["dup"]);
  assert.deepEqual(marks, [undefined, undefined, "1", "1", undefined]);
});

test("QoS 2: the identifier is on disk before PUBREC and off it before PUBCOMP [MQTT-4.3.3]", async (t) => {
  const { broker, intake } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1);
  client.send(publish(7, { qos: 2 }));
  await until("a message", () => intake.waiting === 1);
  await settledNetwork();
  assert.deepEqual(client.of("pubrec"), []);
  intake.commit();
  await client.received("pubrec");
  assert.deepEqual([...intake.disk.packets.keys()], [7]);
  client.send({ cmd: "pubrel", messageId: 7 });
  await until("the release", () => intake.waiting === 1);
  await settledNetwork();
  assert.deepEqual(client.of("pubcomp"), []);
  intake.commit();
  await client.received("pubcomp");
  assert.deepEqual([...intake.disk.packets.keys()], []);
  client.send(publish(7, { qos: 2, payload: "another" }));
  await until("the next message of that identifier", () => intake.waiting === 1);
  intake.commit();
  assert.deepEqual(intake.disk.payloads, ['{"n":7}', "another"]);
});

for (const crash of ["before the commit", "after the commit", "after PUBREC", "after PUBREL"]) {
  test(`QoS 2 survives a crash ${crash} with the message there once`, async (t) => {
    const first = await startedSource(t, { qos: 2 });
    const client = await first.broker.accept(1);
    client.send(publish(9, { qos: 2 }));
    await until("a message", () => first.intake.waiting === 1);
    const { disk } = first.intake;
    if (crash !== "before the commit") first.intake.commit();
    if (crash === "after PUBREC" || crash === "after PUBREL") await client.received("pubrec");
    if (crash === "after PUBREL") {
      client.send({ cmd: "pubrel", messageId: 9 });
      await until("the release", () => first.intake.waiting === 1);
      first.intake.commit();
    }
    // What the first process held in memory goes with it; only `disk` is left.
    const second = await startedSource(
      t,
      { qos: 2 },
      { intake: heldIntake(structuredClone(disk)) },
    );
    second.intake.commitAlways();
    const again = await second.broker.accept(1, { sessionPresent: true });
    if (crash === "before the commit" || crash === "after the commit") {
      again.send(publish(9, { qos: 2, dup: true }));
      await again.received("pubrec");
    }
    again.send({ cmd: "pubrel", messageId: 9 });
    await again.received("pubcomp");
    assert.deepEqual(second.intake.disk.payloads, ['{"n":9}']);
    assert.equal(second.intake.disk.messages[0]?.headers["dup"], undefined);
    assert.deepEqual([...second.intake.disk.packets.keys()], []);
    assert.equal(second.intake.forgets, 0);
  });
}

test("QoS 2: a repeated PUBLISH is answered once its original is on disk, in order", async (t) => {
  const { broker, intake, reconnect } = await startedSource(t, { qos: 2 });
  const first = await broker.accept(1);
  first.send(publish(1, { qos: 2 }), publish(2, { qos: 2 }));
  await until("two messages", () => intake.waiting === 2);
  first.socket.destroy();
  await reconnect(2);
  const second = await broker.accept(2, { sessionPresent: true });
  second.send(
    publish(1, { qos: 2, dup: true }),
    publish(2, { qos: 2, dup: true }),
    publish(3, { qos: 2 }),
  );
  await until("the new message", () => intake.waiting === 3);
  await settledNetwork();
  assert.deepEqual(second.ids("pubrec"), []);
  intake.commit();
  await second.received("pubrec", 3);
  assert.deepEqual(second.ids("pubrec"), [1, 2, 3]);
  assert.deepEqual(intake.disk.payloads, ['{"n":1}', '{"n":2}', '{"n":3}']);
});

test("PUBREL of an identifier that we do not know is completed with reason 0x92", async (t) => {
  const { broker } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1);
  client.send({ cmd: "pubrel", messageId: 77 });
  const packet = await client.received("pubcomp");
  assert.equal(packet.messageId, 77);
  assert.equal(packet.cmd === "pubcomp" && packet.reasonCode, 0x92);
});

test("a CONNACK without session voids all identifiers on disk before SUBSCRIBE and before any PUBLISH", async (t) => {
  const intake = heldIntake({
    payloads: [],
    messages: [],
    packets: new Map([[4, { id: 4, digest: null }]]),
  });
  const forgetting = Promise.withResolvers<void>();
  intake.forgetting = forgetting.promise;
  const { broker } = await startedSource(t, { qos: 2 }, { intake });
  await until("a connection", () => broker.clients.length === 1);
  const client = broker.clients[0];
  assert.ok(client);
  await client.received("connect");
  // In one segment with the CONNACK, as a broker with subscriptions of its own would.
  client.send({ cmd: "connack", sessionPresent: false, reasonCode: 0 }, publish(4, { qos: 2 }));
  await until("the wish to forget", () => intake.forgets === 1);
  await settledNetwork();
  assert.equal(client.of("subscribe").length, 0);
  assert.equal(intake.waiting, 0);
  forgetting.resolve();
  await client.received("subscribe");
  await until("the message", () => intake.waiting === 1);
  intake.commit();
  await client.received("pubrec");
  assert.deepEqual([...intake.disk.packets.keys()], [4]);
});

test("identifiers are forgotten after what the old session brought is on disk, on whichever connection", async (t) => {
  const { broker, intake, reconnect } = await startedSource(t, { qos: 2 });
  const first = await broker.accept(1);
  first.send(publish(4, { qos: 2 }));
  await until("a message", () => intake.waiting === 1);
  const forgetsBefore = intake.forgets;
  first.socket.destroy();
  await reconnect(2);
  const second = broker.clients[1];
  assert.ok(second);
  await second.received("connect");
  second.send({ cmd: "connack", sessionPresent: false, reasonCode: 0 });
  await settledNetwork();
  assert.equal(intake.forgets, forgetsBefore);
  assert.ok(intake.asked > 0, "no commit was asked for");
  // That connection breaks too: the session that it began is there, the old identifiers are void all the same.
  second.socket.destroy();
  await reconnect(3);
  const third = broker.clients[2];
  assert.ok(third);
  await third.received("connect");
  third.send({ cmd: "connack", sessionPresent: true, reasonCode: 0 });
  await settledNetwork();
  assert.equal(third.of("subscribe").length, 0);
  intake.commit();
  await third.received("subscribe");
  assert.equal(intake.forgets, forgetsBefore + 1);
  assert.deepEqual([...intake.disk.packets.keys()], []);
});

test("a full intake pauses the socket; room resumes it", async (t) => {
  const { broker, intake, context } = await startedSource(t);
  const client = await broker.accept(1);
  intake.hasSpace = false;
  const payload = "x".repeat(16_384);
  client.send(...Array.from({ length: 1000 }, (_, index) => publish(index + 1, { payload })));
  await until("the pause", () => context.readFigures()["paused"] === true);
  await settledNetwork();
  const taken = intake.waiting;
  // One chunk is at most 64 KiB.
  assert.ok(taken <= 5, `${taken} messages were taken without room`);
  intake.roomReturns();
  intake.commitAlways();
  await client.received("puback", 1000);
  assert.equal(context.readFigures()["paused"], false);
});

test("bytes that are not on disk are bounded: the socket is paused at 8 MiB", async (t) => {
  const { broker, intake, context } = await startedSource(t, { qos: 0 });
  const client = await broker.accept(1);
  const payload = "x".repeat(65_536);
  client.send(...Array.from({ length: 300 }, () => publish(1, { qos: 0, payload })));
  await until("the pause", () => context.readFigures()["paused"] === true);
  await settledNetwork();
  const heldBytes = Number(context.readFigures()["unsettledBytes"]);
  assert.ok(heldBytes >= heldBytesMax && heldBytes < heldBytesMax + 200_000, `${heldBytes}`);
  intake.commitAlways();
  await until("all", () => intake.disk.payloads.length === 300);
  await until("nothing held", () => context.readFigures()["unsettledBytes"] === 0);
});

test("retained messages are skipped on 3.1.1 when the session is not new, and acknowledged", async (t) => {
  const { broker, intake, context } = await startedSource(t, { protocol: "3.1.1" });
  intake.commitAlways();
  const client = await broker.accept(1, { sessionPresent: true });
  client.send(publish(1, { retain: true }), publish(2, { retain: true, dup: true }), publish(3));
  await client.received("puback", 3);
  assert.deepEqual(client.ids("puback"), [1, 2, 3]);
  // A redelivery is of a message that was not acknowledged: it is taken in.
  assert.deepEqual(intake.disk.payloads, ['{"n":2}', '{"n":3}']);
  assert.equal(context.sums.get('holdfast_source_events_total{source="load",status="skipped"}'), 1);
});

test("retained messages of a new subscription are taken in", async (t) => {
  const { broker, intake } = await startedSource(t, { protocol: "3.1.1" });
  intake.commitAlways();
  const client = await broker.accept(1, { sessionPresent: false });
  client.send(publish(1, { retain: true }));
  await client.received("puback");
  assert.deepEqual(intake.disk.payloads, ['{"n":1}']);
});

test("a message of a topic that is not configured is acknowledged, counted as skipped, and told once", async (t) => {
  const { broker, intake, context } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1, { sessionPresent: true });
  client.send(publish(1, { qos: 2, topic: "older/x" }), publish(2, { qos: 2, topic: "older/y" }));
  await client.received("pubrec", 2);
  client.send({ cmd: "pubrel", messageId: 1 });
  const completed = await client.received("pubcomp");
  assert.equal(completed.cmd === "pubcomp" && completed.reasonCode, 0);
  assert.equal(intake.waiting, 0);
  assert.equal(context.sums.get('holdfast_source_events_total{source="load",status="skipped"}'), 2);
  assert.equal(context.lines.filter(({ message }) => message.includes("not configured")).length, 1);
});

test("a commit is asked for when a 3.1.1 broker's window of 20 is full, and not before", async (t) => {
  const { broker, intake } = await startedSource(t, { protocol: "3.1.1" });
  const client = await broker.accept(1, { sessionPresent: true });
  const asked = intake.asked;
  client.send(...Array.from({ length: 19 }, (_, index) => publish(index + 1)));
  await until("19", () => intake.waiting === 19);
  assert.equal(intake.asked, asked);
  client.send(publish(20));
  await until("20", () => intake.waiting === 20);
  await settledNetwork();
  assert.equal(intake.asked, asked + 1);
});

test("PUBRELs ask for their commit at once: their identifiers must not pile up in a linger", async (t) => {
  const { broker, intake } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1);
  client.send(...[1, 2, 3].map((id) => publish(id, { qos: 2 })));
  await until("three messages", () => intake.waiting === 3);
  intake.commit();
  await client.received("pubrec", 3);
  const before = intake.asked;
  client.send(...[1, 2, 3].map((messageId): Packet => ({ cmd: "pubrel", messageId })));
  await until("the releases", () => intake.waiting === 3);
  await until("a commit to be asked for", () => intake.asked > before);
  intake.commit();
  await client.received("pubcomp", 3);
});

test("QoS 2: a new message under an identifier in use is taken in, a repetition is not", async (t) => {
  const { broker, intake, context } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1);
  client.send(
    publish(5, { qos: 2, payload: "one" }),
    publish(5, { qos: 2, payload: "one", dup: true }),
    publish(5, { qos: 2, payload: "two", dup: true }),
  );
  await until("two messages", () => intake.waiting === 2);
  intake.commit();
  await client.received("pubrec", 3);
  assert.deepEqual(intake.disk.payloads, ["one", "two"]);
  const warnings = context.lines.filter(({ message }) => message.includes("identifier 5 for two"));
  assert.equal(warnings.length, 1);
});

test("QoS 2: an identifier that comes again after its PUBREL brings a new message", async (t) => {
  const { broker, intake } = await startedSource(t, { qos: 2 });
  const client = await broker.accept(1);
  client.send(publish(5, { qos: 2, payload: "one" }));
  await until("a message", () => intake.waiting === 1);
  intake.commit();
  await client.received("pubrec");
  client.send({ cmd: "pubrel", messageId: 5 }, publish(5, { qos: 2, payload: "one" }));
  await until("the release and the message", () => intake.waiting === 2);
  intake.commit();
  await client.received("pubcomp");
  await client.received("pubrec", 2);
  assert.deepEqual(intake.disk.payloads, ["one", "one"]);
  assert.deepEqual([...intake.disk.packets.keys()], [5]);
});

test("no more than the receive maximum is taken in until the broker has read the PUBACKs", async (t) => {
  const { broker, intake } = await startedSource(t, { receiveMaximum: 4 });
  intake.commitAlways();
  const client = await broker.accept(1);
  // More than was agreed, at once, as mosquitto 2.0.11 sends them.
  client.send(...Array.from({ length: 20 }, (_, index) => publish(index + 1)));
  await client.received("pingreq");
  await settledNetwork();
  assert.equal(intake.disk.payloads.length, 4);
  client.send({ cmd: "pingresp" });
  await client.received("pingreq", 2);
  await settledNetwork();
  assert.ok(intake.disk.payloads.length <= 8, `${intake.disk.payloads.length}`);
  for (let pings = 2; intake.disk.payloads.length < 20; pings++) {
    client.send({ cmd: "pingresp" });
    await client.received("pingreq", pings + 1);
  }
  const all = Array.from({ length: 20 }, (_, index) => index + 1);
  await client.received("puback", 20);
  assert.deepEqual(client.ids("puback"), all);
  assert.deepEqual(
    intake.disk.payloads,
    all.map((n) => `{"n":${n}}`),
  );
});

test("a broker that sends 8 MiB before it reads the PUBACKs is served all the same", async (t) => {
  const { broker, intake, context } = await startedSource(t, { receiveMaximum: 4 });
  intake.commitAlways();
  const client = await broker.accept(1);
  const payload = "x".repeat(100_000);
  const count = 100;
  client.send(...Array.from({ length: count }, (_, index) => publish(index + 1, { payload })));
  await client.received("puback", count);
  assert.equal(intake.disk.payloads.length, count);
  assert.equal(context.readFigures()["unsettledBytes"], 0);
  assert.equal(client.of("pingreq").length, 1);
});

test("QoS 2: no more than the receive maximum is taken in until the broker has released some", async (t) => {
  const { broker, intake } = await startedSource(t, { receiveMaximum: 4, qos: 2 });
  intake.commitAlways();
  const client = await broker.accept(1);
  client.send(...Array.from({ length: 10 }, (_, index) => publish(index + 1, { qos: 2 })));
  for (let done = 4; done < 10; done++) {
    await client.received("pubrec", done);
    await settledNetwork();
    assert.equal(intake.disk.payloads.length, done);
    client.send({ cmd: "pubrel", messageId: done - 3 });
  }
  await client.received("pubrec", 10);
  assert.equal(intake.disk.payloads.length, 10);
});

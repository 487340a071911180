import assert from "node:assert/strict";
import type { IPublishPacket } from "mqtt-packet";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { Secret } from "../../src/core/secret.ts";
import { createMqttSink, type MqttSinkSettings } from "../../src/sink/mqtt.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { mqttSettings } from "../support/mqtt-settings.ts";
import { recordingContext } from "../support/recording-context.ts";
import {
  scriptedBroker,
  type ScriptedBroker,
  type ScriptedClient,
} from "../support/scripted-broker.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

interface Connected {
  readonly sink: Sink;
  readonly clock: FakeClock;
  readonly client: ScriptedClient;
  readonly send: (events: readonly StoredEvent[], signal?: AbortSignal) => ReturnType<Sink["send"]>;
}

function makeSink(t: TestContext, broker: ScriptedBroker, given: Partial<MqttSinkSettings> = {}) {
  const clock = new FakeClock();
  const settings = mqttSettings(broker.url, { ackTimeout: 5000, ...given });
  const sink = createMqttSink(recordingContext("bus", clock), settings, { device: "box" });
  t.after(() => sink.close());
  return { sink, clock };
}

/** Opens a sink on a broker that answers CONNECT with `connack`. */
async function connected(
  t: TestContext,
  given: Partial<MqttSinkSettings> = {},
  properties: Record<string, number | boolean> = {},
): Promise<Connected> {
  const broker = await scriptedBroker(t);
  const { sink, clock } = makeSink(t, broker, given);
  const opening = sink.open(new Map(), never);
  await until("a connection", () => broker.clients.length === 1);
  const client = broker.clients[0] as ScriptedClient;
  await client.received("connect");
  const isFive = client.version === 5;
  client.send({
    cmd: "connack",
    sessionPresent: false,
    ...(isFive ? { reasonCode: 0, properties } : { returnCode: 0 }),
  });
  await opening;
  return {
    sink,
    clock,
    client,
    send: (events, signal = never) =>
      sink.send({ device: "box", stream: "readings", events }, signal),
  };
}

function published(client: ScriptedClient): IPublishPacket[] {
  return client.of("publish") as IPublishPacket[];
}

function acknowledge(client: ScriptedClient, number: number, reasonCode = 0): void {
  const { messageId } = published(client)[number - 1] as IPublishPacket;
  client.send({
    cmd: "puback",
    messageId: messageId ?? 0,
    ...(client.version === 5 && { reasonCode }),
  });
}

const fails =
  (kind: string, message: RegExp) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.kind, kind);
    assert.match(error.message, message);
    return true;
  };

test("send() publishes the stored bytes under the template's topic, named by user properties", async (t) => {
  const given = { topic: "edge/{device}/{stream}/{header:room}", retain: true };
  const { client, send } = await connected(t, given);
  const payload = Buffer.from([0xff, 0, 1]);
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const headers = { room: "north", traceparent };
  const sending = send([storedEvent({ seq: 7, payload, headers })]);
  await client.received("publish");
  const [packet] = published(client);
  assert.equal(packet?.topic, "edge/box/readings/north");
  assert.equal(packet.qos, 1);
  assert.equal(packet.retain, true);
  assert.deepEqual(packet.payload, payload);
  assert.deepEqual(
    { ...(packet.properties?.userProperties as object) },
    {
      device: "box",
      epoch: testEpoch,
      stream: "readings",
      seq: "7",
      time: new Date(storedEvent({ seq: 7 }).time).toISOString(),
      traceparent,
    },
  );
  acknowledge(client, 1);
  assert.deepEqual(await sending, { settled: 1, refused: [], wireBytes: 227 });
});

test("open() asks for a clean session with a stable client ID and reveals the password to the broker alone", async (t) => {
  const { client } = await connected(t, { username: "edge", password: new Secret({ text: "pw" }) });
  const connect = await client.received("connect");
  assert.ok(connect.cmd === "connect");
  assert.equal(connect.clientId, "holdfast-box-bus-sink");
  assert.equal(connect.clean, true);
  assert.equal(connect.username, "edge");
  assert.equal(connect.password?.toString(), "pw");
});

test("send() keeps to the window, and to the broker's receive maximum where that is smaller", async (t) => {
  for (const [window, receiveMaximum, most] of [
    [3, 100, 3],
    [256, 5, 5],
  ] as const) {
    const { client, send } = await connected(t, { window }, { receiveMaximum });
    const sending = send(storedEvents(1, 12));
    for (let number = 1; number <= 12; number++) {
      const out = Math.min(12, number - 1 + most);
      await client.received("publish", out);
      assert.equal(published(client).length, out);
      acknowledge(client, number);
    }
    assert.equal((await sending).settled, 12);
  }
});

test("send() asks on when nothing is left to be sent, so that a broker that gathers its answers gives the last ones", async (t) => {
  const { client, send } = await connected(t);
  const sent = send(storedEvents(1, 40));
  await client.received("publish", 40);
  assert.equal(client.of("pingreq").length, 0);
  for (let number = 1; number <= 39; number += 1) {
    acknowledge(client, number);
    // As often as there may be need, and no more.
    if (number <= 16) await client.received("pingreq", number);
  }
  await until("what is not asked", () => client.of("pingreq").length >= 16);
  acknowledge(client, 40);
  assert.equal((await sent).settled, 40);
  assert.equal(client.of("pingreq").length, 16);
  const next = send(storedEvents(41, 1));
  await client.received("publish", 41);
  acknowledge(client, 41);
  await next;
  assert.equal(client.of("pingreq").length, 16, "one by itself has nothing to wait for");
});

test("send() gives no identifier that waits for its answer still, and none of 0", async (t) => {
  const { client, send } = await connected(t, { window: 65_535 });
  const stopping = new AbortController();
  const first = send(storedEvents(1, 3), stopping.signal);
  await client.received("publish", 3);
  stopping.abort();
  assert.equal((await first).settled, 0);
  const inUse = new Set(published(client).map(({ messageId }) => messageId));
  for (let at = 4; at < 65_540; at += 8_000) {
    const count = Math.min(8_000, 65_540 - at);
    const sending = send(storedEvents(at, count));
    await client.received("publish", at - 1 + count);
    for (const { messageId } of published(client).slice(at - 1))
      client.send({ cmd: "puback", messageId: messageId ?? 0, reasonCode: 0 });
    assert.equal((await sending).settled, count);
  }
  const ids = published(client)
    .slice(3)
    .map(({ messageId }) => messageId ?? 0);
  assert.ok(ids.every((id) => id > 0 && !inUse.has(id)));
  assert.ok(new Set(ids).size >= 65_530, "all were used");
});

test("send() refuses what cannot be published, by index, and sends the rest", async (t) => {
  const { client, send } = await connected(t, { topic: "{header:to}" }, { maximumPacketSize: 400 });
  const sending = send([
    storedEvent({ seq: 1, headers: { to: "a/+/b" } }),
    storedEvent({ seq: 2, headers: { to: "a/b" } }),
    storedEvent({ seq: 3, headers: { to: "" } }),
    storedEvent({ seq: 4, headers: {} }),
    storedEvent({ seq: 5, headers: { to: "a" }, payload: Buffer.alloc(400) }),
    storedEvent({ seq: 6, headers: { to: "a" }, payload: Buffer.alloc(200) }),
  ]);
  await client.received("publish", 2);
  acknowledge(client, 1);
  acknowledge(client, 2);
  const { settled, refused, failure } = await sending;
  assert.equal(settled, 6);
  assert.equal(failure, undefined);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [0, 2, 3, 4],
  );
  for (const { error } of refused) assert.equal(error.code, "SINK_REFUSED");
  assert.match(refused[0]?.error.message ?? "", /MQTT-3\.3\.2-2/);
});

test("send() tells a refusal of one event from a quota and from a missing right", async (t) => {
  const { client, send } = await connected(t);
  const sending = send(storedEvents(1, 4));
  await client.received("publish", 4);
  acknowledge(client, 1, 0x10);
  acknowledge(client, 2, 0x99);
  acknowledge(client, 4);
  acknowledge(client, 3, 0x97);
  const { settled, refused, failure } = await sending;
  assert.equal(settled, 2);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [1],
  );
  assert.match(refused[0]?.error.message ?? "", /Payload format invalid/);
  assert.equal(failure?.kind, "transient");

  const other = await connected(t);
  const denied = other.send(storedEvents(1, 1));
  await other.client.received("publish");
  acknowledge(other.client, 1, 0x87);
  assert.equal((await denied).failure?.kind, "config");
});

test("send() gives back what is settled when the connection breaks, and fails until it is opened again", async (t) => {
  const { client, send, sink } = await connected(t);
  const sending = send(storedEvents(1, 10));
  await client.received("publish", 10);
  for (const number of [1, 2, 4]) acknowledge(client, number);
  client.socket.end();
  const { settled, failure } = await sending;
  assert.equal(settled, 2);
  assert.equal(failure?.code, "SINK_UNREACHABLE");
  assert.equal((await send(storedEvents(3, 1))).settled, 0);
  await sink.close();
});

test("send() sends nothing by itself on the next connection", async (t) => {
  const broker = await scriptedBroker(t);
  const { sink } = makeSink(t, broker);
  const open = async (number: number): Promise<ScriptedClient> => {
    const opening = sink.open(new Map(), never);
    await until("a connection", () => broker.clients.length === number);
    const client = broker.clients[number - 1] as ScriptedClient;
    await client.received("connect");
    client.send({ cmd: "connack", sessionPresent: false, reasonCode: 0 });
    await opening;
    return client;
  };
  const first = await open(1);
  const batch = { device: "box", stream: "readings", events: storedEvents(1, 5) };
  const sending = sink.send(batch, never);
  await first.received("publish", 5);
  first.socket.destroy();
  assert.equal((await sending).settled, 0);
  await sink.close();
  const second = await open(2);
  const again = sink.send({ ...batch, events: storedEvents(1, 1) }, never);
  await second.received("publish");
  acknowledge(second, 1);
  await again;
  assert.equal(published(second).length, 1);
  assert.equal((published(second)[0] as IPublishPacket).dup, false);
});

test("send() gives up a broker that acknowledges nothing, and a delivery that is stopped", async (t) => {
  const { client, send, clock } = await connected(t);
  const sending = send(storedEvents(1, 3));
  await client.received("publish", 3);
  clock.advance(5000);
  const { settled, failure } = await sending;
  assert.equal(settled, 0);
  assert.match(failure?.message ?? "", /acknowledged none of 3 messages for 5 s/);

  const other = await connected(t);
  const stop = new AbortController();
  const stopped = other.send(storedEvents(1, 2), stop.signal);
  await other.client.received("publish", 2);
  stop.abort();
  assert.ok((await stopped).failure !== undefined);
});

test("send() at QoS 0 needs no answer", async (t) => {
  const { client, send } = await connected(t, { qos: 0 });
  assert.equal((await send(storedEvents(1, 600))).settled, 600);
  await client.received("publish", 600);
  assert.ok(published(client).every(({ qos }) => qos === 0));
});

test("send() at QoS 0 gives a link no more than it takes", async (t) => {
  const { client, send } = await connected(t, { qos: 0, window: 4 });
  client.socket.pause();
  for (const size of [1_000_000, 10_000]) {
    const count = 64_000_000 / size;
    let isOver = false;
    const sending = send(storedEvents(1, count, { payload: Buffer.alloc(size) }));
    void sending.then(() => (isOver = true));
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(isOver, false);
    client.socket.resume();
    assert.equal((await sending).settled, count);
    client.socket.pause();
  }
});

test("open() speaks 3.1.1 to a broker that knows no other, whether it says so or hangs up", async (t) => {
  for (const answer of [{ reasonCode: 0x84 }, { returnCode: 1 }, null]) {
    const broker = await scriptedBroker(t);
    const { sink } = makeSink(t, broker);
    const opening = sink.open(new Map(), never);
    await until("the first connection", () => broker.clients.length === 1);
    const [five] = broker.clients as [ScriptedClient];
    await five.received("connect");
    if (answer === null) five.socket.destroy();
    else {
      if ("returnCode" in answer) five.version = 4;
      five.send({ cmd: "connack", sessionPresent: false, ...answer });
    }
    await until("the second connection", () => broker.clients.length === 2);
    const four = broker.clients[1] as ScriptedClient;
    await four.received("connect");
    assert.equal(four.version, 4);
    four.send({ cmd: "connack", sessionPresent: false, returnCode: 0 });
    await opening;
    const sending = sink.send(
      { device: "box", stream: "readings", events: storedEvents(1, 1) },
      never,
    );
    await four.received("publish");
    acknowledge(four, 1);
    assert.equal((await sending).settled, 1);
    await sink.close();
  }
});

test("open() says whether a person must act or time will tell", async (t) => {
  for (const [reasonCode, kind, words] of [
    [0x86, "config", /Bad User Name or Password/],
    [0x87, "config", /Not authorized/],
    [0x88, "transient", /Server unavailable/],
  ] as const) {
    const broker = await scriptedBroker(t);
    const { sink } = makeSink(t, broker);
    const opening = sink.open(new Map(), never);
    await until("a connection", () => broker.clients.length === 1);
    await broker.clients[0]?.received("connect");
    broker.clients[0]?.send({ cmd: "connack", sessionPresent: false, reasonCode });
    await assert.rejects(opening, fails(kind, words));
    await sink.close();
    assert.equal(broker.clients.length, 1);
  }
});

test("open() refuses a broker that cannot do what was configured", async (t) => {
  await assert.rejects(connected(t, {}, { maximumQoS: 0 }), fails("config", /takes QoS 0 alone/));
  await assert.rejects(
    connected(t, { retain: true }, { retainAvailable: false }),
    fails("config", /retains nothing/),
  );
});

test("open() gives up a broker that does not answer, and stops when it is told to", async (t) => {
  const broker = await scriptedBroker(t);
  const { sink } = makeSink(t, broker, { ackTimeout: 300 });
  await assert.rejects(sink.open(new Map(), never), fails("transient", /connack timeout/));
  await sink.close();
  const stop = new AbortController();
  const opening = makeSink(t, broker).sink.open(new Map(), stop.signal);
  await until("the connection", () => broker.clients.length === 2);
  stop.abort();
  await assert.rejects(opening, fails("transient", /stopped/));
  await until("it to be closed", () => broker.clients.every(({ isClosed }) => isClosed));
});

test("open() says who cannot be reached, without the URL's password", async (t) => {
  const broker = await scriptedBroker(t);
  const url = broker.url.replace("//", "//edge:hidden@").replace(/\d+$/, "1");
  const { sink } = makeSink(t, broker, { url });
  await assert.rejects(sink.open(new Map(), never), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.match(error.message, /^Cannot deliver to mqtt:\/\/127\.0\.0\.1:1: connect ECONNREFUSED/);
    return true;
  });
});

test("onLost() tells of a broker that goes while nothing is sent, with its reason", async (t) => {
  const { sink, client } = await connected(t);
  const losses: HoldfastError[] = [];
  sink.onLost?.((error) => losses.push(error));
  client.send({ cmd: "disconnect", reasonCode: 0x8e });
  client.socket.end();
  await until("the loss", () => losses.length === 1);
  assert.match(losses[0]?.message ?? "", /disconnected us: Session taken over/);
  assert.equal(losses[0]?.kind, "transient");
});

test("close() says DISCONNECT, and does not wait for a broker that keeps the connection open", async (t) => {
  const { sink, client, clock } = await connected(t);
  client.socket.on("end", () => undefined);
  const closing = sink.close();
  await client.received("disconnect");
  clock.advance(1000);
  await closing;
  await sink.close();
});

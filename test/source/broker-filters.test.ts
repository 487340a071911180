import assert from "node:assert/strict";
import { test } from "node:test";
import type { Packet } from "mqtt-packet";
import { BrokerFilters, filtersMax } from "../../src/source/broker-filters.ts";
import { rawClient, startedBroker, type RawClient } from "../support/started-broker.ts";
import { until } from "../support/until.ts";

const refused = 0x80;

const subscribe = (topics: readonly string[], messageId = 1): Packet => ({
  cmd: "subscribe",
  messageId,
  subscriptions: topics.map((topic) => ({ topic, qos: 1 })),
});
const topicsOf = (count: number, of = "t"): string[] =>
  Array.from({ length: count }, (_, index) => `${of}/${index}`);

async function granted(client: RawClient, topics: readonly string[]): Promise<number> {
  const before = client.of("suback").length;
  client.send(subscribe(topics, before + 1));
  const packet = await client.received("suback", before + 1);
  if (packet.cmd !== "suback") assert.fail();
  return packet.granted.filter((code) => code !== refused).length;
}

test("BrokerFilters counts each filter of a client once, and gives room back", () => {
  const filters = new BrokerFilters(3);
  assert.ok(filters.admits("a", "x"));
  assert.ok(filters.admits("a", "x"));
  assert.ok(filters.admits("a", "y"));
  assert.ok(filters.admits("b", "x"));
  assert.equal(filters.size, 3);
  assert.equal(filters.admits("b", "y"), false);
  assert.equal(filters.has("b", "y"), false);
  filters.end("a", ["x", "unknown"]);
  filters.end("nobody", ["x"]);
  assert.equal(filters.size, 2);
  assert.ok(filters.admits("b", "y"));
  filters.forget("b");
  filters.forget("b");
  assert.equal(filters.size, 1);
});

test("filters are bounded over all clients: what is beyond is refused and told, and the rest holds", async (t) => {
  const { port, context, intake } = await startedBroker(t);
  intake.commitAlways();
  const many = await rawClient(t, port, { clientId: "many", clean: false });
  const other = await rawClient(t, port, { clientId: "other" });
  assert.equal(await granted(many, topicsOf(filtersMax + 100)), filtersMax);
  assert.equal(await granted(many, topicsOf(50)), 50, "those it has already");
  assert.equal(await granted(other, ["alarms"]), 0);
  const told = context.lines.filter(({ message }) => message.includes(`${filtersMax} topic`));
  assert.ok(told.length > 0);
  assert.equal(context.readFigures()["filters"], filtersMax);
  many.send({ cmd: "unsubscribe", messageId: 7, unsubscriptions: ["t/1", "t/2"] });
  await many.received("unsuback");
  assert.equal(await granted(other, ["alarms", "more", "and more"]), 2);
  // Away and remembered it keeps its place, and gets what it was granted and nothing else.
  many.send({ cmd: "disconnect" });
  await many.gone();
  await until("it to be away", () => context.readFigures()["clients"] === 1);
  assert.equal(context.readFigures()["filters"], filtersMax);
  other.publish(1, { topic: "t/0" });
  other.publish(2, { topic: `t/${filtersMax + 1}` });
  await other.received("puback", 2);
  const back = await rawClient(t, port, { clientId: "many", clean: false });
  await back.settled();
  const topics = back.of("publish").map((packet) => packet.cmd === "publish" && packet.topic);
  assert.deepEqual(topics, ["t/0"]);
  // Without a session it gives its place back.
  other.socket.destroy();
  await until("its place to be free", () => context.readFigures()["filters"] === filtersMax - 2);
  await rawClient(t, port, { clientId: "many", clean: true });
  await until("all to be free", () => context.readFigures()["filters"] === 0);
});

test("a client that asks for much that is retained gets all of it, and others have their turn meanwhile", async (t) => {
  const { port, intake } = await startedBroker(t);
  intake.commitAlways();
  const client = await rawClient(t, port);
  const retained = 500;
  for (const [index, topic] of topicsOf(retained, "r").entries())
    client.publish(index + 1, { topic, retain: true });
  await client.received("puback", retained);
  let turns = 0;
  const counting = setInterval(() => (turns += 1), 0);
  t.after(() => clearInterval(counting));
  const wild = topicsOf(2_000, "no").map((topic) => `${topic}/+`);
  client.send(subscribe([...wild, "r/3", "r/+"]));
  await client.received("suback");
  const before = turns;
  await client.received("publish", retained);
  assert.ok(turns - before > 50, `${turns - before} turns`);
  const topics = client
    .of("publish")
    .flatMap((packet) => (packet.cmd === "publish" ? [packet.topic] : []));
  assert.deepEqual(topics.toSorted(), topicsOf(retained, "r").toSorted());
});

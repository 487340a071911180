import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cachedTopicsMax,
  isTopicPattern,
  parseTopicPattern,
  TopicHeaders,
} from "../../src/source/topic-pattern.ts";

const matches = (pattern: string, topic: string): unknown =>
  parseTopicPattern(pattern).match(topic);

test("parseTopicPattern() asks the broker for + where a level is named", () => {
  const pattern = parseTopicPattern("greenhouse/{device}/env/{quantity}");
  assert.equal(pattern.filter, "greenhouse/+/env/+");
  assert.deepEqual(pattern.names, ["device", "quantity"]);
  assert.deepEqual(pattern.match("greenhouse/a1/env/temperature"), {
    device: "a1",
    quantity: "temperature",
  });
  assert.equal(pattern.match("greenhouse/a1/env"), null);
  assert.equal(pattern.match("greenhouse/a1/env/temperature/x"), null);
  assert.equal(pattern.match("house/a1/env/temperature"), null);
});

test("match() takes the wildcards as the examples of MQTT 5, 4.7.1 do", () => {
  for (const topic of ["sport/tennis/player1", "sport/tennis/player1/ranking"]) {
    assert.deepEqual(matches("sport/tennis/player1/#", topic), {}, topic);
  }
  assert.deepEqual(matches("sport/#", "sport"), {});
  assert.equal(matches("sport/+", "sport"), null);
  assert.deepEqual(matches("sport/+", "sport/"), {});
  assert.deepEqual(matches("sport/tennis/+", "sport/tennis/player1"), {});
  assert.equal(matches("sport/tennis/+", "sport/tennis/player1/ranking"), null);
  assert.deepEqual(matches("+/+", "/finance"), {});
  assert.deepEqual(matches("/+", "/finance"), {});
  assert.equal(matches("+", "/finance"), null);
  assert.deepEqual(matches("{room}/#", "kitchen/a/b"), { room: "kitchen" });
  assert.deepEqual(matches("a/{x}", "a/"), { x: "" });
});

test("match() gives no $-topic to a leading wildcard [MQTT-4.7.2-1]", () => {
  assert.equal(matches("#", "$SYS/uptime"), null);
  assert.equal(matches("+/uptime", "$SYS/uptime"), null);
  assert.equal(matches("{root}/uptime", "$SYS/uptime"), null);
  assert.deepEqual(matches("$SYS/#", "$SYS/uptime"), {});
});

test("match() looks past the group of a shared subscription", () => {
  const pattern = parseTopicPattern("$share/edge/load/{device}");
  assert.equal(pattern.filter, "$share/edge/load/+");
  assert.deepEqual(pattern.match("load/d1"), { device: "d1" });
});

test("isTopicPattern() takes what a broker would take, and nothing else", () => {
  for (const good of [
    "#",
    "+",
    "a",
    "/",
    "a//b",
    "a/{b}/#",
    "{a}/{b}",
    "+/+",
    "$SYS/#",
    "$share/g/a/#",
  ]) {
    assert.ok(isTopicPattern(good), good);
  }
  const bad = ["", "a#", "a/#/b", "a+", "+a/b", "a/{b", "a/x{b}", "a/{}", "a/{b c}", "{a}/{a}"];
  const reserved = ["{topic}", "{dup}", "{__proto__}", "{1a}"];
  const odd = [
    "a\0b",
    "$share",
    "$share/g",
    "$share//a",
    "$share/+/a",
    "$share/g/",
    "x".repeat(65_536),
  ];
  for (const text of [...bad, ...reserved, ...odd, 7, null]) {
    assert.ok(!isTopicPattern(text), String(text).slice(0, 40));
  }
});

test("TopicHeaders gives one frozen object to all events of a topic, by the first pattern that fits", () => {
  const headers = new TopicHeaders([parseTopicPattern("a/{x}"), parseTopicPattern("a/#")]);
  const first = headers.of("a/1");
  assert.deepEqual(first, { headers: { topic: "a/1", x: "1" }, fields: ["x"] });
  assert.equal(headers.of("a/1"), first);
  assert.ok(Object.isFrozen(first?.headers));
  assert.deepEqual(headers.of("a/1/2"), { headers: { topic: "a/1/2" }, fields: [] });
  assert.equal(headers.of("b"), null);
});

test("TopicHeaders remembers at most cachedTopicsMax topics, and those in use", () => {
  const headers = new TopicHeaders([parseTopicPattern("a/{x}")]);
  const used = headers.of("a/used");
  for (let index = 0; index < 3 * cachedTopicsMax; index++) {
    headers.of(`a/${index}`);
    assert.equal(headers.of("a/used"), used);
    assert.ok(headers.size <= cachedTopicsMax, `${headers.size} topics`);
  }
  assert.ok(headers.size >= cachedTopicsMax / 2);
});

test("TopicHeaders does not keep topics of many bytes", () => {
  const headers = new TopicHeaders([parseTopicPattern("a/{x}")]);
  const long = "x".repeat(60_000);
  assert.deepEqual(headers.of(`a/${long}`)?.headers["x"], long);
  assert.equal(headers.size, 0);
});

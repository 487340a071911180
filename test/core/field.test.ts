import assert from "node:assert/strict";
import { test } from "node:test";
import { assert as assertStruct, create, is } from "superstruct";
import {
  boolean,
  byType,
  duration,
  either,
  group,
  integer,
  listenAddress,
  listOf,
  mapOf,
  number,
  oneOf,
  optional,
  secret,
  size,
  text,
  url,
  type AnyField,
} from "../../src/core/field.ts";
import { byKey } from "../../src/core/field-by-key.ts";
import { nearestName } from "../../src/core/nearest.ts";
import { Secret } from "../../src/core/secret.ts";

const doc = "It is for this test";
const read = (field: AnyField, value: unknown): unknown => create(value, field.struct);
const refuses = (field: AnyField, ...values: unknown[]): void => {
  for (const value of values) assert.throws(() => read(field, value), JSON.stringify(value));
};

test("duration() and size() read text with a unit and refuse bare numbers", () => {
  assert.equal(read(duration({ doc }), "1.5s"), 1500);
  assert.equal(read(size({ doc }), "64KiB"), 65_536);
  refuses(duration({ doc }), 5, "5", "5 weeks", "", null);
  refuses(size({ doc }), 5, "64kb", "-1KiB");
  const endless = "9".repeat(400);
  refuses(duration({ doc }), `${endless}s`, "300000000d");
  refuses(size({ doc }), `${endless}B`);
});

test("duration() and size() keep their bounds", () => {
  const field = duration({ doc, min: "1s", max: "1m" });
  refuses(field, "999ms", "61s");
  assert.equal(read(field, "1m"), 60_000);
  assert.match(field.about.allowed, /at least 1s, at most 1m$/);
  refuses(size({ doc, min: "1MiB" }), "1KiB");
});

test("optional() lets every kind of field be left out", () => {
  for (const field of [duration({ doc }), size({ doc }), secret({ doc }), text({ doc })]) {
    assert.equal(read(optional(field as AnyField), undefined), undefined);
    refuses(field, undefined);
  }
});

test("a default stands in for what is left out, written as in YAML", () => {
  const field = group(
    { wait: duration({ doc, default: "5m" }), on: boolean({ doc, default: true }) },
    { doc },
  );
  assert.deepEqual(read(field, undefined), { wait: 300_000, on: true });
  assert.equal(field.about.required, false);
});

test("group() refuses keys that it does not know, and what is missing", () => {
  const field = group({ name: text({ doc }), count: integer({ doc, default: 1 }) }, { doc });
  assert.deepEqual(read(field, { name: "a" }), { name: "a", count: 1 });
  refuses(field, {}, { name: "a", other: 1 }, { name: "" }, [], "a", undefined);
  assert.deepEqual(field.about.schema["required"], ["name"]);
});

test("integer(), number(), oneOf(), url() and listenAddress() say what they take", () => {
  refuses(integer({ doc, min: 1, max: 3 }), 0, 4, 1.5, "2", Number.NaN);
  refuses(number({ doc }), "1", Number.POSITIVE_INFINITY);
  refuses(oneOf(["a", "b"], { doc }), "c", 1);
  refuses(url({ doc, protocols: ["mqtt"] }), "http://x", "x", 1);
  assert.equal(read(url({ doc, protocols: ["mqtt"] }), "mqtt://x:1"), "mqtt://x:1");
  for (const address of ["127.0.0.1:80", "[::1]:80", "unix:/run/x.sock", "localhost:80"]) {
    assert.equal(read(listenAddress({ doc }), address), address);
  }
  refuses(listenAddress({ doc }), "80", 80, "unix:relative", "::1:80", "a:65536", "[1:2]:80");
});

test("secret() takes text, a file or a credential, and shows none of it", () => {
  const value = read(secret({ doc }), "hunter2");
  assert.ok(value instanceof Secret);
  assert.equal(value.reveal(), "hunter2");
  assert.doesNotMatch(`${JSON.stringify({ value })}${String(value)}`, /hunter2/);
  assert.ok(read(secret({ doc }), { file: "/x" }) instanceof Secret);
  refuses(
    secret({ doc }),
    { fil: "/x" },
    { file: "/x", credential: "y" },
    { file: 1 },
    1234,
    "",
    [],
  );
});

test("byType() chooses by type, and blames only the type when that is unknown", () => {
  const field = byType(
    { a: group({ x: integer({ doc }) }, { doc }), b: group({ y: text({ doc }) }, { doc }) },
    { doc },
  );
  assert.deepEqual(read(field, { type: "a", x: 1 }), { type: "a", x: 1 });
  refuses(field, { type: "a", y: "b" }, { x: 1 }, { type: "constructor" }, null);
  try {
    assertStruct({ type: "c", x: 1, z: 2 }, field.struct);
    assert.fail("An unknown type passed");
  } catch (error) {
    const failures = (error as { failures(): { path: unknown[] }[] }).failures();
    assert.deepEqual(
      failures.map(({ path }) => path),
      [["type"]],
    );
  }
});

test("byKey() wants exactly one of its keys", () => {
  const field = byKey({ a: text({ doc }), b: text({ doc }) }, { doc });
  assert.deepEqual(read(field, { a: "x" }), { a: "x" });
  refuses(field, {}, { a: "x", b: "y" }, { c: "x" });
});

test("either() and listOf() judge by the way that was meant", () => {
  const field = either(
    text({ doc }),
    listOf(text({ doc }), { doc, min: 1 }),
    (v) => !Array.isArray(v),
    { doc },
  );
  assert.equal(read(field, "a"), "a");
  assert.deepEqual(read(field, ["a"]), ["a"]);
  refuses(field, [], [1], 1);
});

test("mapOf() takes names and not prototypes", () => {
  const field = mapOf(integer({ doc }), { doc });
  assert.deepEqual(read(field, undefined), {});
  assert.equal(is({ "a.b-c_1": 1 }, field.struct), true);
  refuses(
    field,
    { "": 1 },
    { "a b": 1 },
    { [`a${"b".repeat(64)}`]: 1 },
    JSON.parse('{"__proto__":1}'),
  );
});

test("text() hands on what its own test says", () => {
  const field = text({ doc, problem: (value) => (value === "bad" ? "It is bad" : null) });
  assert.equal(read(field, "good"), "good");
  assert.throws(() => read(field, "bad"), /It is bad/);
});

test("nearestName() finds slips and leaves other words alone", () => {
  const names = ["temperature", "humidity", "to"];
  assert.equal(nearestName("temprature", names), "temperature");
  assert.equal(nearestName("tmeperature", names), "temperature");
  assert.equal(nearestName("Humidity", names), "humidity");
  assert.equal(nearestName("ot", names), "to");
  assert.equal(nearestName("pressure", names), undefined);
  assert.equal(nearestName("x".repeat(1000), names), undefined);
  assert.equal(nearestName("x", []), undefined);
});

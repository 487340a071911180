import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "superstruct";
import {
  compileStream,
  defaultStreamOptions,
  streamOptions,
  type CompiledStream,
} from "../../src/schema/schema.ts";

const compile = (options: object): CompiledStream =>
  compileStream("readings", create(options, streamOptions.struct));

const rules = compile({
  schema: {
    device: "string",
    temperature: "number?",
    humidity: { type: "number", min: 0, max: 100, optional: true },
    mode: { type: "string", enum: ["on", "off"], optional: true },
    code: { type: "string", pattern: "^[a-z]+$", maxLength: 3, optional: true },
    "at.lat": "number?",
    "at.name": "string?",
  },
});

test("validate() takes what fits, and other fields too", () => {
  for (const value of [
    { device: "a" },
    { device: "a", temperature: 21.5, humidity: 0, mode: "on", code: "abc", other: {} },
    { device: "a", temperature: null, at: { lat: 1 } },
    { device: "a", at: null },
    { device: "a", at: {} },
  ]) {
    assert.equal(rules.validate(value), null, JSON.stringify(value));
  }
});

test("validate() names the field, what was found and what was expected", () => {
  const cases: [unknown, string][] = [
    [{ device: "a", temperature: "x" }, 'temperature: found "x", expected a number'],
    [{}, "device: found nothing, expected text"],
    [{ device: null }, "device: found null, expected text"],
    [
      { device: "a", humidity: 101 },
      "humidity: found 101, expected a number, at least 0, at most 100",
    ],
    [{ device: "a", mode: "auto" }, 'mode: found "auto", expected one of on, off'],
    [
      { device: "a", code: "ABC" },
      'code: found "ABC", expected text, at most 3 long, matching ^[a-z]+$',
    ],
    [
      { device: "a", code: "abcd" },
      'code: found "abcd", expected text, at most 3 long, matching ^[a-z]+$',
    ],
    [{ device: "a", at: { lat: "x" } }, 'at.lat: found "x", expected a number'],
    [{ device: "a", at: 3 }, "at: found 3, expected an object"],
    [[], "found [], expected an object with the fields of stream readings"],
  ];
  for (const [value, reason] of cases) assert.equal(rules.validate(value), reason);
});

test("validate() survives a payload that cannot be printed", () => {
  const trap = { toString: [] };
  assert.match(rules.validate({ device: trap }) ?? "", /^device: found /);
  assert.match(rules.validate([trap]) ?? "", /^found /);
  assert.match(rules.validate({ device: "a", at: [trap] }) ?? "", /^at: found /);
});

test("validate() shows the beginning of a long value", () => {
  const reason = rules.validate({ device: "a", temperature: "x".repeat(1000) }) ?? "";
  assert.ok(reason.length < 120, reason);
});

test("validate() asks nothing of a stream without a schema", () => {
  const free = compileStream("free", defaultStreamOptions());
  for (const value of [{}, [], { a: { b: 1 } }]) assert.equal(free.validate(value), null);
  assert.equal(compile({ format: "text" }).validate("x"), null);
});

test("timeOf() reads seconds, milliseconds and ISO 8601", () => {
  const timed = compile({ time: "meta.ts" });
  const at = (ts: unknown): number => timed.timeOf({ meta: { ts } }, 7);
  assert.equal(at(1_700_000_000), 1_700_000_000_000);
  assert.equal(at(1_700_000_000.5), 1_700_000_000_500);
  assert.equal(at(1_700_000_000_123), 1_700_000_000_123);
  assert.equal(at(99_999_999_999), 99_999_999_999_000);
  assert.equal(at(100_000_000_000), 100_000_000_000);
  const noon = Date.UTC(2026, 10, 23, 12);
  for (const text of [
    "2026-11-23T12:00:00Z",
    "2026-11-23T12:00:00",
    "2026-11-23 12:00:00",
    "2026-11-23T12:00",
    "2026-11-23T13:00:00+01:00",
    "2026-11-23T13:00:00+0100",
    "2026-11-23T13:00:00,000+01",
    "2026-11-23T12:00:00.000z",
  ]) {
    assert.equal(at(text), noon, text);
  }
  assert.equal(at("2026-11-23"), Date.UTC(2026, 10, 23));
  assert.equal(timed.timeOf({}, 7), 7);
});

test("validate() refuses a time that cannot be read", () => {
  const timed = compile({ time: "ts" });
  for (const ts of ["yesterday", true, "2026-13-45", 1e300, "1700000000"]) {
    assert.match(timed.validate({ ts }) ?? "", /^ts: found .*, expected a time/, String(ts));
  }
  assert.equal(timed.validate({}), null);
});

test("keyOf() follows a path into the payload, or takes the topic", () => {
  const byDevice = compile({ key: "meta.device" });
  assert.equal(byDevice.keyOf({ meta: { device: "a" } }, {}), "a");
  assert.equal(byDevice.keyOf({ meta: { device: 7 } }, {}), "7");
  assert.equal(byDevice.keyOf({ meta: 7 }, {}), null);
  assert.equal(byDevice.keyOf(Buffer.from("x"), {}), null);
  const byTopic = compile({ key: "topic", format: "bytes" });
  assert.equal(byTopic.keyOf(Buffer.from("x"), { topic: "a/b" }), "a/b");
  assert.equal(byTopic.keyOf(Buffer.from("x"), {}), null);
});

test("streamOptions refuse what cannot be compiled", () => {
  for (const schema of [
    { a: "nubmer" },
    { a: { type: "string", pattern: "(" } },
    { a: { typ: "string" } },
    { a: { type: "string", min: 3 } },
    { a: { type: "number", pattern: "x" } },
    { a: { type: "boolean", maxLength: 1 } },
    { a: { type: "number", min: 3, max: 1 } },
    { a: { type: "number", enum: ["x"] } },
    { a: "number", "a.b": "string" },
  ]) {
    assert.throws(() => compile({ schema }));
  }
});

/** An event of a journal as an entry: back as it was, and readable for PSPF. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/core/errors.ts";
import { decodeEntry } from "../../src/wire/encodings.ts";
import { decodeStored, encodeProjected, isProjected } from "../../src/wire/projected.ts";
import { pspf } from "../../src/wire/pspf.ts";
import { storedEvent } from "../support/stored-event.ts";

const bytesOf = (fields: readonly (string | Uint8Array)[]): Buffer[] =>
  fields.map((field) => Buffer.from(field as string));

const anyEvent = fc.record({
  stream: fc.constantFrom("readings", "7", "true", "_x.y-z"),
  seq: fc.integer({ min: 1, max: 2 ** 40 - 1 }),
  key: fc.option(fc.string({ unit: "binary" }), { nil: null }),
  time: fc.oneof(
    fc.integer({ min: 0, max: 4e12 }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((time) => time + 0),
  ),
  headers: fc.dictionary(
    fc.string().filter((name) => name !== "__proto__"),
    fc.string(),
    { noNullPrototype: true },
  ),
  payload: fc.oneof(
    fc.json().map((text) => Buffer.from(text)),
    fc.dictionary(fc.string(), fc.jsonValue()).map((value) => Buffer.from(JSON.stringify(value))),
    fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  ),
});

test("encodeProjected() gives every event back byte for byte, in valid UTF-8", () => {
  fc.assert(
    fc.property(anyEvent, fc.constantFrom("json", "text", "bytes"), (given, format) => {
      const event = storedEvent(given);
      const fields = bytesOf(encodeProjected(event, format));
      assert.ok(isProjected(fields));
      const back = decodeStored(event.stream, event.seq, fields);
      assert.deepEqual({ ...back, payload: Buffer.from(back.payload) }, event);
      for (const field of fields)
        assert.ok(new TextDecoder("utf-8", { fatal: true }).decode(field) !== null);
      // PSPF's own fields stand first, and its reader has no trouble with any.
      assert.deepEqual(
        [0, 2, 4].map((at) => String(fields[at])),
        ["event_id", "event_type", "timestamp"],
      );
      pspf.decode(fields);
    }),
  );
});

test("encodeProjected() shows PSPF the payload's keys, a key of its own as seq, text quoted where it would be JSON", () => {
  const shown = (text: string, format: "json" | "text" = "json"): unknown => {
    const fields = bytesOf(
      encodeProjected(storedEvent({ seq: 9, payload: Buffer.from(text) }), format),
    );
    const { _holdfast, _raw, ...rest } = pspf.decode(fields).payload as Record<string, unknown>;
    assert.ok(Array.isArray(_holdfast) && _raw !== undefined);
    return rest;
  };
  assert.deepEqual(shown('{"a":"12","b":{"c":[1,null]}}'), {
    a: "12",
    b: { c: [1, null] },
    seq: 9,
  });
  assert.deepEqual(shown('{"seq":5}'), { seq: 5 });
  assert.deepEqual(shown("[1,2]"), { value: [1, 2], seq: 9 });
  assert.deepEqual(shown('{"payload":1}'), { value: { payload: 1 }, seq: 9 });
  assert.deepEqual(shown("12", "text"), { value: "12", seq: 9 });
});

test("decodeStored() refuses what somebody else has written or changed", () => {
  const good = bytesOf(encodeProjected(storedEvent(), "json"));
  const isRefusal = (thrown: unknown): boolean =>
    thrown instanceof HoldfastError && thrown.code === "EVENT_MALFORMED";
  for (const fields of [
    [],
    bytesOf(["a", "1"]),
    good.slice(0, -2),
    [...good.slice(0, -3), Buffer.from("{"), ...good.slice(-2)],
    [...good.slice(0, -3), Buffer.from("[2]"), ...good.slice(-2)],
    [...good.slice(0, -2), Buffer.from("other"), Buffer.from("x")],
  ]) {
    assert.throws(() => decodeStored("readings", 1, fields), isRefusal);
  }
});

test("decodeEntry() reads a device's entry with its exact payload, key, time and trace", () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const event = storedEvent({
    payload: Buffer.from('{"n": 1, "seq": "x"}'),
    key: "k",
    headers: { topic: "t", traceparent },
  });
  const read = decodeEntry(bytesOf(encodeProjected(event, "json")));
  assert.deepEqual(read.payload, { n: 1, seq: "x" });
  assert.deepEqual([read.key, read.time, read.trace], ["k", event.time, { traceparent }]);
  assert.deepEqual(read.alternatives("n"), []);
});

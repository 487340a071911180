import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/core/errors.ts";
import { decodeEntry, encodings } from "../../src/wire/encodings.ts";
import type { OutgoingEvent } from "../../src/wire/wire.ts";

const reserved = ["event_id", "event_type", "timestamp", "traceparent", "tracestate"];
const own = [...reserved, "payload", "partition", "offset"];
/** Text that is likely to be taken for something else. */
const trap = fc.constantFrom(
  "1",
  "007",
  "true",
  "null",
  "NaN",
  "-Infinity",
  " 1 ",
  "[1]",
  '"',
  '"x"',
  "1e5",
  "-0",
  "{}",
  "nan",
  "\ufeff1",
  "\u2028",
  "-",
);
const text = fc.oneof(trap, fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }));
const json = fc.jsonValue({ maxDepth: 3, stringUnit: "grapheme" });
const value = fc.oneof(text, json, fc.double({ noNaN: true, noDefaultInfinity: true }));
const name = fc
  .oneof(fc.constantFrom("__proto__", "constructor", "d", "~1", "k"), text)
  .filter((each) => !own.includes(each));
const object = fc.dictionary(name, value, { maxKeys: 6 });

const event = (payload: unknown): OutgoingEvent => ({
  id: "1f",
  type: "GenericEvent",
  time: 1700000000123,
  key: null,
  trace: {},
  payload,
});

function there(encoding: "pspf" | "compact", payload: unknown): unknown {
  const fields = encodings[encoding].encode(event(payload));
  return decodeEntry(fields.map((each) => Buffer.from(each))).payload;
}

/** As JSON keeps it: -0 is 0 there, lone surrogates are U+FFFD on any wire. */
function normal(payload: unknown): unknown {
  const wellFormed = (each: unknown): unknown => {
    if (typeof each === "string") return each.toWellFormed();
    if (Object.is(each, -0)) return 0;
    if (Array.isArray(each)) return each.map(wellFormed);
    if (typeof each !== "object" || each === null) return each;
    return Object.entries(each)
      .map(([key, member]): [string, unknown] => [key.toWellFormed(), wellFormed(member)])
      .sort(([a], [b]) => (a < b ? -1 : 1));
  };
  return wellFormed(payload);
}

test("pspf carries any object there and back, whatever its texts look like", () => {
  fc.assert(
    fc.property(object, (payload) => {
      assert.deepEqual(normal(there("pspf", payload)), normal(payload));
    }),
    { numRuns: 2_000 },
  );
});

test("compact carries any JSON there and back", () => {
  fc.assert(
    fc.property(fc.oneof(json, object), (payload) => {
      assert.deepEqual(
        normal(there("compact", payload)),
        normal(JSON.parse(JSON.stringify(payload))),
      );
    }),
    { numRuns: 1_000 },
  );
});

test("the proof goes red when text that looks like JSON is not quoted", () => {
  const unquoted = (payload: Record<string, unknown>): unknown => {
    const fields = encodings.pspf.encode(event(payload));
    const plain = fields.map((each, index) => {
      const given = payload[fields[index - 1] ?? ""];
      return index % 2 === 1 && typeof given === "string" ? given : each;
    });
    return decodeEntry(plain.map((each) => Buffer.from(each))).payload;
  };
  const run = fc.check(
    fc.property(object, (payload) => {
      assert.deepEqual(normal(unquoted(payload)), normal(payload));
    }),
    { numRuns: 2_000 },
  );
  assert.ok(run.failed);
});

test("decodeEntry() throws nothing but EVENT_MALFORMED, whatever the bytes", () => {
  const bytes = fc.uint8Array({ maxLength: 20 });
  const marked = fc.oneof(
    bytes,
    fc.constantFrom("~1", "timestamp", "payload", "event_id").map((each) => Buffer.from(each)),
  );
  fc.assert(
    fc.property(fc.array(marked, { maxLength: 9 }), (fields) => {
      try {
        decodeEntry(fields).alternatives("timestamp");
      } catch (thrown) {
        assert.ok(
          thrown instanceof HoldfastError && thrown.code === "EVENT_MALFORMED",
          String(thrown),
        );
      }
    }),
    { numRuns: 3_000 },
  );
});

/** PSPF's own entries, recorded byte for byte (recorded/), both ways. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { number, object, string } from "superstruct";
import type { HoldfastError } from "../../src/core/errors.ts";
import { checkEvent } from "../../src/stream/event-schema.ts";
import { originalFields, readDeadLetter } from "../../src/wire/dead-letter.ts";
import { deadLetterFields } from "../../src/wire/dead-letter.ts";
import { pspf } from "../../src/wire/pspf.ts";
import { decodeEntry } from "../../src/wire/encodings.ts";
import type { Fields } from "../../src/wire/wire.ts";

interface Recorded {
  readonly case: string;
  readonly emittedAs: "dict" | "model";
  readonly event: Record<string, unknown>;
  readonly entry: readonly (readonly [string, string])[];
  readonly entryText: Record<string, string>;
  readonly pspfReadsBack: readonly Record<string, unknown>[];
}
const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`recorded/${name}.json`, import.meta.url), "utf8")) as unknown;
const entries = read("entries") as Recorded[];
const decoding = read("decoding") as { fieldText: string; pspfDecodes: unknown }[];
const deadLetter = read("dead-letter") as {
  dlqEntry: Record<string, string>;
  originalId: string;
};

/** What PSPF's base class adds, and we give as metadata. */
const base = ["event_id", "event_type", "timestamp", "partition", "offset"];
const ours = { id: "i-1", type: "GenericEvent", time: 0, key: null, trace: {} };

for (const { case: name, emittedAs, event, entry, entryText, pspfReadsBack } of entries) {
  test(`decode() gives what PSPF reads of its own entry: ${name} as ${emittedAs}`, () => {
    const fields = entry.flatMap(([field, value]) => [
      Buffer.from(field),
      Buffer.from(value, "base64"),
    ]);
    const { payload, type, id, time } = decodeEntry(fields);
    const expected = Object.entries(pspfReadsBack[0] ?? {})
      .filter(([field]) => !base.includes(field))
      .filter(([field, value]) => field !== "payload" || Object.keys(value as object).length > 0)
      // Where PSPF has a Python number that JSON does not know, the text stays text.
      .map(([field, value]) => [field, value === "not JSON: nan" ? "NaN" : value]);
    assert.deepEqual(payload, Object.fromEntries(expected));
    assert.equal(type, entryText["event_type"]);
    assert.equal(id, entryText["event_id"] ?? null);
    const stamp = entryText["timestamp"];
    assert.equal(time, stamp === undefined ? null : Date.parse(`${stamp.slice(0, 23)}Z`));
  });

  test(`encode() writes what PSPF writes, byte for byte: ${name} as ${emittedAs}`, () => {
    const written = asRecord(pspf.encode({ ...ours, payload: event }));
    for (const [field, value] of Object.entries(event)) {
      const theirs = entryText[field] ?? "";
      const isPlainText = typeof value === "string" && pspfReadsBack[0]?.[field] === value;
      // Two differences, both meant: text that would be JSON is quoted; JavaScript has no 20.0 beside 20.
      if (typeof value === "string" && !isPlainText) {
        assert.equal(written[field], JSON.stringify(value), field);
      } else if (theirs === "20.0") assert.equal(written[field], "20");
      else assert.equal(written[field], theirs, field);
    }
  });
}

for (const { fieldText, pspfDecodes } of decoding) {
  test(`decode() reads the text ${JSON.stringify(fieldText)} as PSPF does`, () => {
    const { payload } = decodeEntry(fieldsOf({ v: fieldText, event_type: "x" }));
    const found = (payload as { v: unknown }).v;
    if (pspfDecodes === "not JSON: nan") assert.equal(found, "NaN");
    else if (pspfDecodes === "not JSON: inf") assert.equal(found, Number.POSITIVE_INFINITY);
    else
      assert.ok(Object.is(found, pspfDecodes) || found == pspfDecodes || same(found, pspfDecodes));
  });
}

test("encode() writes metadata first, the payload in its order, the trace last", () => {
  const trace = { traceparent: "00-1-2-01", tracestate: "a=b" };
  const fields = pspf.encode({ ...ours, trace, payload: { b: 1, a: "x", none: undefined } });
  const names = fields.filter((_, index) => index % 2 === 0);
  const expected = ["event_id", "event_type", "timestamp", "b", "a", "traceparent", "tracestate"];
  assert.deepEqual(names, expected);
  assert.equal(asRecord(fields)["timestamp"], "1970-01-01T00:00:00.000Z");
});

test("encode() refuses what PSPF could not read, and says which field", () => {
  const refused: readonly [unknown, RegExp][] = [
    [[1], /a list.*wrap it/],
    ["text", /string.*compact/],
    [null, /null/],
    [{ a: Number.NaN }, /^a: found NaN/],
    [{ a: { b: [Number.POSITIVE_INFINITY] } }, /^a: found Infinity/],
    [{ event_type: "123" }, /^event_type: found 123/],
    [{ event_type: 5 }, /^event_type/],
    [{ payload: "x" }, /^payload: found string, expected an object/],
    [{ partition: "x" }, /^partition: found string, expected an integer/],
  ];
  for (const [payload, why] of refused) {
    assert.throws(
      () => pspf.encode({ ...ours, payload }),
      (thrown: HoldfastError) => {
        assert.equal(thrown.code, "EVENT_INVALID");
        assert.match(thrown.message, why);
        return true;
      },
    );
  }
});

test("decode() names the field that is no UTF-8", () => {
  const fields = [
    Buffer.from("a"),
    Buffer.from("1"),
    Buffer.from("bad"),
    Buffer.from([0xff, 0xfe]),
  ];
  assert.throws(() => decodeEntry(fields), {
    code: "EVENT_MALFORMED",
    message: "Field bad is no UTF-8",
  });
});

test("checkEvent() decides by the declared type between a number and its text", () => {
  const schema = object({ serial: string(), n: number() });
  const plain = decodeEntry(fieldsOf({ serial: "12345", n: "7", event_type: "x" }));
  assert.deepEqual(checkEvent(schema, plain), { serial: "12345", n: 7 });
  const quoted = decodeEntry(fieldsOf({ serial: '"12345"', n: "7", event_type: "x" }));
  assert.deepEqual(checkEvent(schema, quoted), { serial: "12345", n: 7 });
  const python = decodeEntry(fieldsOf({ serial: "a", n: "nan", event_type: "x" }));
  assert.throws(() => checkEvent(schema, python), { code: "EVENT_INVALID" });
  const wrong = decodeEntry(fieldsOf({ serial: "a", n: "seven", event_type: "x" }));
  assert.throws(() => checkEvent(schema, wrong), { message: 'n: found "seven", expected number' });
  const stamped = object({ timestamp: string(), n: number() });
  const own = decodeEntry(fieldsOf({ timestamp: "2026-01-01T00:00:00Z", n: "7", event_type: "x" }));
  assert.deepEqual(checkEvent(stamped, own), { timestamp: "2026-01-01T00:00:00Z", n: 7 });
});

test("deadLetterFields() keeps the event as it was received and says what PSPF says, as it says it", () => {
  const { dlqEntry, originalId } = deadLetter;
  const own = ["_error", "_original_stream", "_original_msg_id", "_moved_timestamp"];
  const event = Object.fromEntries(
    Object.entries(dlqEntry).filter(([name]) => !own.includes(name)),
  );
  const letter = {
    error: dlqEntry["_error"] ?? "",
    topic: "dlqt",
    id: originalId,
    movedMs: Number(dlqEntry["_moved_timestamp"]) * 1000,
    group: "g",
    attempts: 3,
    firstMs: 1_500,
    stack: "at x",
  };
  const fields = deadLetterFields(fieldsOf(event), letter).map((value) =>
    Buffer.from(value as string),
  );
  const written = Object.entries(asRecord(fields.map(String))).slice(
    0,
    Object.keys(dlqEntry).length,
  );
  assert.deepEqual(Object.fromEntries(written), dlqEntry);
  assert.deepEqual(asRecord(originalFields(fields).map((value) => String(value))), event);
  const said = readDeadLetter(fields);
  assert.deepEqual([said.attempts, said.group, said.firstMs, said.stack], [3, "g", 1_500, "at x"]);
});

test("originalFields() leaves a field of the event's own that is called like one of ours", () => {
  const event = fieldsOf({ _error: "mine", v: "1" });
  const letter = {
    error: "e",
    topic: "t",
    id: "1-1",
    movedMs: 1,
    group: "g",
    attempts: 1,
    firstMs: 1,
    stack: "",
  };
  const fields = deadLetterFields(event, letter).map((value) => Buffer.from(value as string));
  assert.deepEqual(asRecord(originalFields(fields).map((value) => String(value))), {
    _error: "mine",
    v: "1",
  });
});

function fieldsOf(record: Record<string, string>): Fields {
  return Object.entries(record).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)]);
}

function asRecord(fields: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let at = 0; at < fields.length; at += 2) record[fields[at] ?? ""] = fields[at + 1] ?? "";
  return record;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

test("decode() takes for JSON what JSON.parse takes, and nothing else", () => {
  const texts = [
    "0",
    "-0",
    "01",
    "12 ",
    "12\n",
    "1.",
    ".5",
    "1.50",
    "1e5",
    "1E+5",
    "1e",
    "-",
    "--1",
    "+1",
  ];
  texts.push(
    "1_000",
    "2026-11-28T10:00:00Z",
    "0x10",
    "1e999",
    "12345678901234567890",
    "7f",
    "1\u000b",
  );
  texts.push(
    "true",
    "false ",
    "null\t",
    "truely",
    "nul",
    "none",
    "fals",
    "nullnull",
    "t",
    "true\u00a0",
  );
  texts.push(" 5", "\t[1]", "\u000b1", '"a"', '"a', "{}x", "[1, 2]", "[1", " true", "");
  for (const text of texts) {
    let expected: unknown = text;
    try {
      expected = JSON.parse(text);
    } catch {
      // It stays text.
    }
    const entry = ["event_type", "x", "f", text].map((each) => Buffer.from(each));
    assert.deepEqual(pspf.decode(entry).payload, { f: expected }, JSON.stringify(text));
  }
});

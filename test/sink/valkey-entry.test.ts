import assert from "node:assert/strict";
import { test } from "node:test";
import type { PayloadFormat } from "../../src/core/event.ts";
import { entryOf, type EncodingName } from "../../src/sink/valkey-entry.ts";
import { decodeEntry } from "../../src/wire/encodings.ts";
import { storedEvent, testEpoch } from "../support/stored-event.ts";

const name = `box/${testEpoch}/readings/7`;

function entry(
  payload: string | Buffer,
  encoding: EncodingName = "pspf",
  format: PayloadFormat | undefined = "json",
  more: { stream?: string; backfill?: boolean; headers?: Record<string, string> } = {},
): Map<string, string> {
  const { stream = "readings", backfill = false, headers = {} } = more;
  const event = storedEvent({ seq: 7, stream, key: "k", headers, payload: Buffer.from(payload) });
  const words = entryOf(event, { device: "box", encoding, format, backfill, generation: "" });
  return new Map(
    words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1] ?? ""]] : [])),
  );
}

function decoded(words: ReadonlyMap<string, string>) {
  return decodeEntry([...words].flat().map((word) => Buffer.from(word)));
}

test("entryOf() gives a field for each key, the event's name as its ID, its stream as its type", () => {
  const words = entry('{"temperature":21.5,"room":"north"}');
  assert.deepEqual(Object.fromEntries(words), {
    event_id: name,
    event_type: "readings",
    timestamp: "2026-01-01T00:00:00.007Z",
    temperature: "21.5",
    room: "north",
  });
});

test("entryOf() compact keeps any JSON as one text, with name, type, time and key", () => {
  const { id, type, time, key, payload } = decoded(entry("[1,2]", "compact"));
  assert.deepEqual(
    { id, type, time, key, payload },
    { id: name, type: "readings", time: storedEvent({ seq: 7 }).time, key: "k", payload: [1, 2] },
  );
});

test("entryOf() wraps what PSPF would not take: nothing is refused", () => {
  assert.equal(entry("21.5").get("value"), "21.5");
  assert.equal(entry("[1]").get("value"), "[1]");
  assert.equal(entry("plain", "pspf", "text").get("value"), "plain");
  assert.equal(entry("no JSON at all").get("value"), "no JSON at all");
  assert.equal(entry('{"payload":"text"}').get("value"), '{"payload": "text"}');
  assert.equal(entry('{"event_type":"12"}').get("value"), '{"event_type": "12"}');
  assert.equal(entry(Buffer.from([0xff, 0]), "pspf", "bytes").get("base64"), "/wA=");
  const wide = JSON.stringify(
    Object.fromEntries(Array.from({ length: 1_001 }, (_, n) => [`f${n}`, n])),
  );
  assert.equal(entry(wide).size, 4);
});

test("entryOf() gives JSON that no value here can hold as the text that it was", () => {
  for (const text of ['{"a":{"b":[-1e999]}}', `${"[".repeat(200_000)}${"]".repeat(200_000)}`]) {
    for (const encoding of ["pspf", "compact"] as const) {
      const { payload } = decoded(entry(text, encoding));
      assert.deepEqual(payload, encoding === "pspf" ? { value: text } : text);
    }
  }
});

test("entryOf() keeps the name beside a payload's own event_id", () => {
  const words = entry('{"event_id":"theirs"}');
  assert.equal(words.get("event_id"), "theirs");
  assert.equal(words.get("holdfast_name"), name);
});

test("entryOf() gives a type that is not itself JSON, whatever the stream is called", () => {
  assert.equal(entry("{}", "pspf", "json", { stream: "12" }).get("event_type"), "stream-12");
  assert.equal(entry("{}", "pspf", "json", { stream: "true" }).get("event_type"), "stream-true");
});

test("entryOf() marks what drains late, and passes a trace on", () => {
  const headers = { traceparent: "00-1-2-01", room: "north" };
  const words = entry("{}", "pspf", "json", { backfill: true, headers });
  assert.equal(words.get("backfill"), "true");
  assert.equal(words.get("traceparent"), "00-1-2-01");
  const compact = entry("{}", "compact", "json", { backfill: true, headers });
  assert.equal(compact.get("backfill"), "true");
  assert.deepEqual(decoded(compact).trace, { traceparent: "00-1-2-01" });
});

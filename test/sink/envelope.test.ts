import assert from "node:assert/strict";
import { test } from "node:test";
import type { PayloadFormat } from "../../src/core/event.ts";
import { formatEnvelopes } from "../../src/sink/envelope.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";

function payloadText(payload: Uint8Array | string, format?: PayloadFormat): string {
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  const line = formatEnvelopes([storedEvent({ payload: bytes })], "box", format).toString();
  assert.equal(line.indexOf("\n"), line.length - 1, "one line");
  assert.doesNotThrow(() => JSON.parse(line), line);
  return /"payload":(.*)\}\n$/.exec(line)?.[1] ?? "";
}

test("formatEnvelopes() writes name, times, key, headers and payload", () => {
  const event = storedEvent({ seq: 3, key: 'k"1', headers: { topic: "a/ü" } });
  assert.deepEqual(JSON.parse(formatEnvelopes([event], "box", "json").toString()), {
    device: "box",
    epoch: testEpoch,
    stream: "readings",
    seq: 3,
    time: "2026-01-01T00:00:00.003Z",
    receivedAt: "2026-01-01T00:00:00.008Z",
    key: 'k"1',
    headers: { topic: "a/ü" },
    payload: { n: 3 },
  });
});

test("formatEnvelopes() marks what was taken before the clock was right, and survives an impossible time", () => {
  const event = storedEvent({ clock: "unsynced", time: 9e15 });
  const line = JSON.parse(formatEnvelopes([event], "box", "json").toString()) as Record<
    string,
    unknown
  >;
  assert.equal(line["clock"], "unsynced");
  assert.equal(line["time"], null);
});

test("formatEnvelopes() splices JSON in byte for byte", () => {
  assert.equal(payloadText('{"a":1.0,"b":1e400,"a":2}', "json"), '{"a":1.0,"b":1e400,"a":2}');
});

test("formatEnvelopes() keeps JSON of many lines, and with a byte order mark, on one line", () => {
  assert.equal(payloadText('{\r\n "a": "x\\ny" }', "json"), '{   "a": "x\\ny" }');
  assert.equal(payloadText("\ufeff[1]", "json"), "[1]");
});

test("formatEnvelopes() writes text as a string and bytes as base64, also where the format is wrong or unknown", () => {
  assert.equal(payloadText("not {json", "json"), '"not {json"');
  assert.equal(payloadText('{"a":1}', "text"), '"{\\"a\\":1}"');
  assert.equal(payloadText("[1]"), "[1]");
  const bytes = Buffer.from([0xff, 0x00, 0x0a]);
  for (const format of ["json", "text", "bytes", undefined] as const) {
    assert.equal(payloadText(bytes, format), '{"base64":"/wAK"}');
  }
  assert.equal(payloadText("plain", "bytes"), '{"base64":"cGxhaW4="}');
});

test("formatEnvelopes() writes neighbours that differ in epoch, headers and time each with its own", () => {
  const events = [
    ...storedEvents(1, 2),
    storedEvent({ seq: 3, epoch: "0000000b-0000-4000-8000-000000000000", headers: { x: "é" } }),
  ];
  const lines = formatEnvelopes(events, "box", "json").toString().trimEnd().split("\n");
  const parsed = lines.map(
    (line) => JSON.parse(line) as { epoch: string; headers: object; time: string },
  );
  assert.deepEqual(
    parsed.map((line) => line.epoch),
    events.map((event) => event.epoch),
  );
  assert.deepEqual(
    parsed.map((line) => line.headers),
    events.map((event) => event.headers),
  );
  assert.equal(new Set(parsed.map((line) => line.time)).size, 3);
});

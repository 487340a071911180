import assert from "node:assert/strict";
import { test } from "node:test";
import type { NewEvent } from "../../src/core/event.ts";
import { openChunk, sealChunk } from "../../src/journal/chunk.ts";
import { decodeSections, SectionEncoder } from "../../src/journal/section.ts";
import { event } from "../support/test-journal.ts";

const head = { first: 7, epoch: 1, boot: 1, clock: "synced" } as const;
const context = { stream: "s", epoch: "e", clock: "synced", first: 7, bootOffsetMs: null } as const;

function section(...events: Parameters<SectionEncoder["add"]>[0][]): Uint8Array<ArrayBuffer> {
  const encoder = new SectionEncoder(1_780_000_000_000, 5000);
  for (const one of events) encoder.add(one);
  return encoder.finish();
}

test("openChunk() gives back what sealChunk() was given, over several sections", () => {
  const topic = Object.freeze({ topic: "a/b", device: "a" });
  const events = [
    event('{"a":1}', { headers: topic, key: "a" }),
    event(Buffer.from([0, 255, 128]), { headers: topic, key: "", time: 5 }),
    event("", { key: "ключ", receivedAt: 1_779_999_999_000 }),
    event("x".repeat(100_000), { headers: { __proto__x: "1", "": "ü" } }),
  ];
  const chunk = sealChunk([section(...events.slice(0, 2)), section(...events.slice(2))], head);
  const opened = openChunk(chunk);
  assert.deepEqual(opened?.head, { ...head, count: 4, seqs: null });
  const decoded = decodeSections(opened?.body ?? new Uint8Array(), context);
  const seen = decoded.map(({ key, time, receivedAt, headers, payload }) => ({
    key,
    time,
    receivedAt,
    headers,
    payload: Buffer.from(payload),
  }));
  assert.deepEqual(
    seen,
    events.map((one) => ({ ...one, payload: Buffer.from(one.payload) })),
  );
  assert.deepEqual(
    decoded.map(({ seq }) => seq),
    [7, 8, 9, 10],
  );
  assert.equal(decoded[0]?.headers, decoded[1]?.headers, "repeated headers are one object");
});

test("openChunk() refuses a chunk in which any one bit was flipped", () => {
  const chunk = sealChunk([section(event("hello"), event("world"))], head);
  for (let bit = 0; bit < chunk.length * 8; bit++) {
    const damaged = Buffer.from(chunk);
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.equal(openChunk(damaged), null, `bit ${bit}`);
  }
  for (let length = 0; length < chunk.length; length++) {
    assert.equal(openChunk(chunk.subarray(0, length)), null, `cut to ${length}`);
  }
});

test("sealChunk() compresses only where that makes it smaller", () => {
  const repeated = Array.from({ length: 100 }, (_, n) => event(`{"device":"d1","n":${n}}`));
  const plain = section(...repeated);
  assert.ok(sealChunk([plain], head).length < plain.length / 4);
  const noise = section(event(crypto.getRandomValues(new Uint8Array(1000))));
  assert.equal(sealChunk([noise], head).length, 48 + noise.length);
});

test("sealChunk() takes deflate for what is short, and zstd from 3,000 bytes on", () => {
  const compressionOf = (payloadBytes: number): number => {
    const chunk = sealChunk([section(event("x".repeat(payloadBytes)))], head);
    assert.ok(openChunk(chunk) !== null);
    // The flags are the fourth byte, the compression their lowest two bits.
    return (chunk[3] ?? 0) & 3;
  };
  assert.equal(compressionOf(2_900), 1);
  assert.equal(compressionOf(3_000), 2);
});

test("decodeSections() puts receipt times before the first sync right, and leaves the payload's times", () => {
  const encoder = new SectionEncoder(1000, 5000);
  encoder.add(event("received", { time: 1500, receivedAt: 1500 }));
  encoder.add(event("sender's", { time: 99, receivedAt: 1600 }));
  const late = { ...context, clock: "unsynced", bootOffsetMs: 1_780_000_000_000 } as const;
  const [first, second] = decodeSections(encoder.finish(), late);
  // Taken 500 ms after the section began, which was 5,000 ms after boot.
  assert.equal(first?.receivedAt, 1_780_000_005_500);
  assert.equal(first?.time, first?.receivedAt);
  assert.equal(first?.clock, "synced");
  assert.equal(second?.time, 99);
  const unknown = decodeSections(encoder.finish(), { ...late, bootOffsetMs: null });
  assert.equal(unknown[0]?.receivedAt, 1500);
  assert.equal(unknown[0]?.clock, "unsynced");
});

test("SectionEncoder.add() that throws halfway leaves the events around it whole", () => {
  const encoder = new SectionEncoder(0, 0);
  const good = (text: string, headers: Record<string, string>): NewEvent => ({
    key: "k",
    time: 1,
    receivedAt: 1,
    headers,
    payload: Buffer.from(text),
  });
  const bad = 21.5 as unknown as string;
  const shared = { topic: "a", level: bad };
  encoder.add(good("a", {}));
  assert.throws(() => encoder.add(good("b", shared)));
  assert.throws(() => encoder.add({ ...good("c", {}), key: bad }));
  shared.level = "x";
  encoder.add(good("d", shared));
  // The module's context counts from 7; only the bytes matter here.
  const events = decodeSections(encoder.finish(), context);
  assert.deepEqual(
    events.map(({ payload, headers }) => [Buffer.from(payload).toString(), { ...headers }]),
    [
      ["a", {}],
      ["d", { topic: "a", level: "x" }],
    ],
  );
});

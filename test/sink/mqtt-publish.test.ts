import assert from "node:assert/strict";
import { test } from "node:test";
import { generate } from "mqtt-packet";
import type { StoredEvent } from "../../src/core/event.ts";
import { PublishPacket, type PublishTerms } from "../../src/sink/mqtt-publish.ts";
import { storedEvent } from "../support/stored-event.ts";

const bytesOf = (packet: PublishPacket, packetId: number): Buffer => {
  const into = Buffer.alloc(packet.headBytes + 7);
  const end = packet.writeHead(into, 7, packetId);
  assert.equal(end, into.length);
  return Buffer.concat([into.subarray(7), packet.payload]);
};

const events: readonly StoredEvent[] = [
  storedEvent({ seq: 1, payload: Buffer.from("21.5") }),
  storedEvent({ seq: 2 ** 40, payload: Buffer.alloc(0), time: 1_780_000_000_123 }),
  storedEvent({
    seq: 3,
    payload: Buffer.alloc(20_000, 7),
    headers: { traceparent: "00-a-b-01", tracestate: "ü=1" },
  }),
  storedEvent({ seq: 4, payload: Buffer.alloc(2_100_000, 7) }),
];

for (const version of [4, 5] as const) {
  for (const qos of [0, 1] as const) {
    test(`PublishPacket is what mqtt-packet makes of it, byte for byte (version ${version}, QoS ${qos})`, () => {
      for (const event of events) {
        for (const [topic, isBackfill] of [
          ["a/b", false],
          ["höhe/π", true],
          ["x".repeat(16_000), true],
        ] as const) {
          const terms: PublishTerms = { version, qos, retain: isBackfill, device: "Gerät" };
          const packet = new PublishPacket(event, topic, terms, isBackfill);
          const { traceparent, tracestate } = event.headers;
          const userProperties = {
            device: "Gerät",
            epoch: event.epoch,
            stream: event.stream,
            seq: String(event.seq),
            time: new Date(event.time).toISOString(),
            ...(isBackfill && { backfill: "true" }),
            ...(traceparent !== undefined && { traceparent }),
            ...(tracestate !== undefined && { tracestate }),
          };
          const wanted = generate(
            {
              cmd: "publish",
              topic,
              payload: Buffer.from(event.payload),
              qos,
              retain: isBackfill,
              dup: false,
              messageId: 0xfe01,
              ...(version === 5 && { properties: { userProperties } }),
            },
            { protocolVersion: version },
          );
          const found = bytesOf(packet, 0xfe01);
          assert.ok(found.equals(wanted), `${topic.slice(0, 10)} ${event.seq}`);
          assert.equal(packet.bytes, wanted.length);
        }
      }
    });
  }
}

test("PublishPacket leaves out a trace state that MQTT could not carry", () => {
  const terms: PublishTerms = { version: 5, qos: 1, retain: false, device: "d" };
  const headers = { tracestate: "x".repeat(70_000) };
  const packet = new PublishPacket(storedEvent({ headers }), "t", terms, false);
  assert.ok(packet.bytes < 1_000);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { generate, type Packet } from "mqtt-packet";
import { PacketCutter, type OversizedPublish } from "../../src/source/mqtt-cutter.ts";

const publish = (messageId: number, bytes: number, topic = "a/b"): Buffer =>
  generate({
    cmd: "publish",
    topic,
    payload: "x".repeat(bytes),
    qos: 1,
    dup: true,
    retain: false,
    messageId,
  });

/** What a cutter with a limit of 100 bytes makes of `stream`, in pieces of `size` bytes. */
function cutInto(
  stream: Buffer,
  size: number,
): { passed: Buffer; oversized: OversizedPublish[]; refused: number } {
  const passed: Buffer[] = [];
  const oversized: OversizedPublish[] = [];
  let refused = 0;
  const cutter = new PacketCutter(100, {
    pass: (bytes) => passed.push(Buffer.from(bytes)),
    oversized: (packet) => oversized.push(packet),
    refused: () => refused++,
  });
  for (let at = 0; at < stream.length; at += size) cutter.cut(stream.subarray(at, at + size));
  return { passed: Buffer.concat(passed), oversized, refused };
}

test("PacketCutter cuts out what is too large and leaves the rest as it was, however the bytes are split", () => {
  const small: Packet[] = [{ cmd: "pingresp" }, { cmd: "pubrel", messageId: 9 }];
  const kept = [
    publish(1, 20),
    ...small.map((packet) => generate(packet)),
    publish(3, 80),
    publish(5, 0),
  ];
  const long = `t/${"y".repeat(90)}`;
  const stream = Buffer.concat([
    ...kept.slice(0, 2),
    publish(2, 5000),
    publish(7, 94, long),
    ...kept.slice(2),
    publish(4, 101),
  ]);
  for (const size of [1, 2, 3, 7, 100, 4096, stream.length]) {
    const { passed, oversized, refused } = cutInto(stream, size);
    assert.deepEqual(passed, Buffer.concat(kept), `pieces of ${size}`);
    assert.deepEqual(
      oversized.map(({ topic, packetId, qos, dup, retain }) => ({
        topic,
        packetId,
        qos,
        dup,
        retain,
      })),
      [
        { topic: "a/b", packetId: 2, qos: 1, dup: true, retain: false },
        { topic: long, packetId: 7, qos: 1, dup: true, retain: false },
        { topic: "a/b", packetId: 4, qos: 1, dup: true, retain: false },
      ],
    );
    assert.equal(oversized[0]?.bytes, publish(2, 5000).length);
    assert.equal(refused, 0);
  }
});

test("PacketCutter refuses another packet than PUBLISH that is too large", () => {
  const suback = generate({
    cmd: "suback",
    messageId: 1,
    granted: Array.from({ length: 200 }, () => 0),
  });
  assert.equal(cutInto(suback, 64).refused, 1);
  assert.equal(cutInto(suback, 64).passed.length, 0);
});

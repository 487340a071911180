import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { snappy } from "../../src/sink/snappy.ts";
import { unsnappy } from "../support/protobuf-reader.ts";

test("snappy() gives what unpacks to the same bytes, and is never much longer", () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.integer({ min: 1, max: 3000 }))
      .map(([bytes, times]) => Buffer.concat(Array.from({ length: times }, () => bytes))),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const input = Buffer.concat(pieces);
      const packed = snappy(input);
      assert.ok(packed.length <= 32 + input.length + input.length / 6);
      assert.deepEqual(unsnappy(packed), input);
    }),
    { numRuns: 300 },
  );
});

test("snappy() compresses beyond one block, and each block by itself", () => {
  const line = Buffer.from('holdfast_sink_events_total{sink="up",status="delivered"} 12345\n');
  const input = Buffer.concat(Array.from({ length: 5000 }, () => line));
  const packed = snappy(input);
  assert.deepEqual(unsnappy(packed), input);
  assert.ok(packed.length < input.length / 15, String(packed.length));
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { test } from "node:test";
import { ByteReader, putVarint, varintBytesMax } from "../../src/journal/varint.ts";

test("ByteReader.varint() gives back what putVarint() wrote, each behind the one before", () => {
  const numbers = fc.array(fc.maxSafeNat(), { maxLength: 20 });
  fc.assert(
    fc.property(numbers, (values) => {
      const bytes = new Uint8Array(values.length * varintBytesMax);
      const end = values.reduce((at, value) => putVarint(bytes, at, value), 0);
      const reader = new ByteReader(bytes.slice(0, end));
      assert.deepEqual(
        values.map(() => reader.varint()),
        values,
      );
      assert.equal(reader.at, end);
    }),
  );
});

test("putVarint() writes what earlier versions wrote", () => {
  const written = (value: number): number[] => {
    const bytes = new Uint8Array(varintBytesMax);
    return [...bytes.subarray(0, putVarint(bytes, 0, value))];
  };
  assert.deepEqual(written(127), [127]);
  assert.deepEqual(written(300), [0xac, 2]);
  assert.deepEqual(written(2 ** 53 - 1), [255, 255, 255, 255, 255, 255, 255, 15]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Pack } from "../../src/plane/pack.ts";

/** As much of MessagePack as is written. */
function unpack(bytes: Buffer): unknown {
  let at = 0;
  const next = (): unknown => {
    const head = bytes[at];
    at += 1;
    const size = head === 0xda ? bytes.readUInt16BE(at) : bytes.readUInt32BE(at);
    at += head === 0xda ? 2 : 4;
    if (head === 0xdd) return Array.from({ length: size }, next);
    assert.ok(head === 0xda || head === 0xdb, `${head}`);
    at += size;
    return bytes.toString("hex", at - size, at);
  };
  const value = next();
  assert.equal(at, bytes.length);
  return value;
}

const hex = (field: string | Uint8Array): string => Buffer.from(field as string).toString("hex");
const field = fc.oneof(fc.string({ unit: "binary" }), fc.uint8Array());

test("take() gives what was added, and begins anew", () => {
  const pack = new Pack();
  fc.assert(
    fc.property(fc.array(fc.array(field, { maxLength: 30 }), { maxLength: 20 }), (entries) => {
      for (const [index, fields] of entries.entries()) pack.add(index + 1, fields);
      assert.equal(pack.entries, entries.length);
      const expected = entries.flatMap((fields, index) => [hex(`${index + 1}`), fields.map(hex)]);
      const { bytes } = pack;
      const packed = pack.take();
      assert.equal(packed.length, bytes);
      assert.deepEqual(unpack(packed), expected);
      assert.equal(pack.entries, 0);
    }),
  );
});

test("add() takes texts of any length", () => {
  for (const length of [0, 1, 21_845, 21_846, 65_535, 65_536, 1_048_576]) {
    for (const letter of ["a", "ж", "€"]) {
      const pack = new Pack();
      const text = letter.repeat(length);
      pack.add(7, [text, Buffer.from(text)]);
      assert.deepEqual(unpack(pack.take()), [hex("7"), [hex(text), hex(text)]]);
    }
  }
});

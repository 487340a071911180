import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePayload, depthMax } from "../../src/core/event.ts";

const nested = (levels: number, [open, close]: readonly [string, string] = ["[", "]"]): Buffer =>
  Buffer.from(`${open.repeat(levels)}1${close.repeat(levels)}`);

test("decodePayload() takes JSON of a hundred levels and refuses more, whatever it is made of", () => {
  for (const kind of [
    ["[", "]"],
    ['{"a":', "}"],
    ['[{"]":', "}]"],
  ] as const) {
    const each = kind[0].replaceAll(/"."/g, "").match(/[[{]/g)?.length ?? 1;
    assert.ok(decodePayload(nested(depthMax / each, kind), "json"));
    assert.throws(() => decodePayload(nested(depthMax / each + 1, kind), "json"), {
      name: "RangeError",
      message: /more than 100 levels/,
    });
  }
  assert.throws(() => decodePayload(nested(500_000), "json"), RangeError);
});

test("decodePayload() counts no bracket that stands in a text, and none that was closed", () => {
  const text = `\\"${"[".repeat(300)}\\\\`;
  assert.deepEqual(decodePayload(Buffer.from(`["${text}",{"${text}":[]}]`), "json"), [
    `"${"[".repeat(300)}\\`,
    { [`"${"[".repeat(300)}\\`]: [] },
  ]);
  const wide = JSON.stringify(Array.from({ length: 300 }, () => [{}]));
  assert.equal((decodePayload(Buffer.from(wide), "json") as unknown[]).length, 300);
});

test("decodePayload() leaves text and bytes alone", () => {
  assert.equal(decodePayload(nested(500), "text"), nested(500).toString());
  assert.deepEqual(decodePayload(nested(500), "bytes"), nested(500));
});

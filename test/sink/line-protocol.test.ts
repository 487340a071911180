import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { createLineWriter, type LineMapping } from "../../src/sink/line-protocol.ts";
import { storedEvent } from "../support/stored-event.ts";

const plain: LineMapping = {
  measurement: "{stream}",
  tags: {},
  fields: {},
  integers: [],
  precision: "ms",
};
const at = 1_767_225_600_000;

function lineOf(
  payload: unknown,
  mapping: Partial<LineMapping> = {},
  given: Partial<StoredEvent> = {},
) {
  const event = storedEvent({
    time: at,
    seq: 7,
    payload: Buffer.from(JSON.stringify(payload)),
    ...given,
  });
  return createLineWriter({ ...plain, ...mapping }, "box").lineOf(event, "json");
}

test("lineOf() writes all that the payload holds, with the device and the event's time", () => {
  const payload = {
    t: 21.5,
    on: true,
    off: false,
    name: 'a "b" \\c',
    gone: null,
    list: [1],
    deep: { er: { v: -1e21 } },
  };
  assert.equal(
    lineOf(payload),
    `readings,device=box t=21.5,on=true,off=false,name="a \\"b\\" \\\\c",deep.er.v=-1e+21 ${at}`,
  );
  assert.equal(lineOf(21.5), `readings,device=box value=21.5 ${at}`);
});

test("lineOf() takes tags from the payload and from the event's name, and does not repeat them as fields", () => {
  const tags = { room: "where.room", unit: "{key}", kind: "{header:kind}", device: "{device}-1" };
  const payload = { where: { room: "north east", floor: 2 }, t: 1 };
  assert.equal(
    lineOf(payload, { tags, measurement: "m {stream}" }, { key: "k=1,2" }),
    `m\\ readings,device=box-1,room=north\\ east,unit=k\\=1\\,2 where.floor=2,t=1 ${at}`,
  );
});

test("lineOf() takes the fields that are named, integers among them", () => {
  const fields = { "t °C": "a.t", n: "n" };
  const payload = { a: { t: 3 }, n: 12.9, other: 1 };
  assert.equal(
    lineOf(payload, { fields, integers: ["n"] }),
    `readings,device=box t\\ °C=3,n=12i ${at}`,
  );
});

test("lineOf() puts the seq below the milliseconds at precision ns, and cuts them off at s", () => {
  assert.equal(lineOf(1, { precision: "ns" }), `readings,device=box value=1 ${at}000007`);
  assert.equal(
    lineOf(1, { precision: "s" }, { time: at + 999 }),
    `readings,device=box value=1 ${at / 1000}`,
  );
});

test("lineOf() keeps line ends and trailing backslashes from what they would break", () => {
  const tags = { a: "a", b: "b" };
  assert.equal(
    lineOf({ a: "x\ny", b: "\\\\", t: 1 }, { tags }),
    `readings,device=box,a=x\\ y t=1 ${at}`,
  );
});

test("lineOf() refuses an event with nothing to write", () => {
  for (const line of [
    lineOf({ only: null }),
    lineOf({ a: 1 }, { fields: { b: "b" } }),
    lineOf(1, { measurement: "{key}" }),
    lineOf(0, {}, { payload: Buffer.from("{") }),
  ]) {
    assert.ok(line instanceof HoldfastError);
    assert.equal(line.code, "SINK_REFUSED");
  }
  const bytes = createLineWriter(plain, "box").lineOf(storedEvent(), "bytes");
  assert.ok(bytes instanceof HoldfastError);
});

test("lineOf() refuses an event whose names, each with those above it, would be more than memory holds", () => {
  const members = Object.fromEntries(Array.from({ length: 3_000 }, (_, n) => [n, n]));
  const refused = lineOf({ ["n".repeat(500)]: members });
  assert.ok(refused instanceof HoldfastError);
  assert.equal(refused.code, "SINK_REFUSED");
  assert.match(refused.message, /names of more than 1048576 characters/);
  const empty = Object.fromEntries(Array.from({ length: 3_000 }, (_, n) => [n, {}]));
  assert.ok(lineOf({ ["n".repeat(500)]: empty, v: 1 }) instanceof HoldfastError);
  assert.equal(typeof lineOf({ ["n".repeat(300)]: members }), "string");
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { noHeaders, type StoredEvent } from "../../src/core/event.ts";
import { createDerive } from "../../src/flow/derive.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { storedEvents } from "../support/stored-event.ts";

const rules = {
  format: "json",
  validate: () => null,
  keyOf: () => null,
  timeOf: (_: unknown, receivedAt: number) => receivedAt,
} as const;
const derive = createDerive(() => rules, new FakeClock());
const [base] = storedEvents(1, 1) as [StoredEvent];

test("createDerive() carries on the input's time, key and headers unless told otherwise", () => {
  const kept = derive("out", { a: 1 }, base, {}, undefined);
  assert.deepEqual([kept.time, kept.key, kept.headers], [base.time, base.key, base.headers]);
  const given = derive("out", { a: 1 }, base, { time: 5, key: "k", headers: noHeaders }, undefined);
  assert.deepEqual([given.time, given.key, given.headers], [5, "k", noHeaders]);
});

test("createDerive() refuses what a careless handler gives, before it can reach the journal", () => {
  const careless: [string, object, RegExp][] = [
    ["out", { time: Number.NaN }, /its time is not in ms/],
    ["out", { time: Number.POSITIVE_INFINITY }, /its time is not in ms/],
    ["out", { time: "now" }, /its time is not in ms/],
    ["out", { key: 7 }, /its key is not a string/],
    ["out", { headers: { a: 1 } }, /a header is not a string/],
    ["", {}, /a stream's name is text/],
  ];
  for (const [stream, options, expected] of careless) {
    assert.throws(() => derive(stream, {}, base, options, undefined), {
      code: "HANDLER_FAILED",
      message: expected,
    });
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { boundedReason, deadLetterOf, reasonBytesMax } from "../../src/flow/dead-letter.ts";
import { storedEvent } from "../support/stored-event.ts";

test("deadLetterOf() keeps the event as it was, and why, how often and when it failed", () => {
  const event = storedEvent({ seq: 7, key: "k", headers: { topic: "a/b" } });
  const error = new HoldfastError("HANDLER_FAILED", "No 7");
  assert.deepEqual(deadLetterOf("processor", "minutes", "readings", 7, event, error, 5, 100, 900), {
    stream: "readings",
    seq: 7,
    origin: "processor",
    originName: "minutes",
    code: "HANDLER_FAILED",
    reason: "No 7",
    attempts: 5,
    firstFailedAt: 100,
    lastFailedAt: 900,
    key: "k",
    time: event.time,
    headers: { topic: "a/b" },
    payload: event.payload,
  });
});

test("boundedReason() cuts at 1 KiB, never within a character", () => {
  assert.equal(boundedReason("short"), "short");
  const exact = "x".repeat(reasonBytesMax);
  assert.equal(boundedReason(exact), exact);
  for (const character of ["x", "é", "€", "😀"]) {
    for (let shift = 0; shift < 4; shift++) {
      const cut = boundedReason("y".repeat(shift) + character.repeat(reasonBytesMax + 1));
      assert.ok(Buffer.byteLength(cut) <= reasonBytesMax, cut);
      assert.ok(Buffer.byteLength(cut) > reasonBytesMax - 8);
      assert.doesNotMatch(cut, /\uFFFD/);
      assert.match(cut, /…$/);
    }
  }
});

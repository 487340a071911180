import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "../../src/core/event-digest.ts";
import { storedEvent } from "../support/stored-event.ts";

test("digestOf() tells key, payload and the payload's own time apart, and nothing that may change later", () => {
  const event = storedEvent();
  const digest = digestOf(event);
  assert.match(digest, /^[\w-]{16}$/);
  for (const other of [{ key: "k" }, { payload: Buffer.from("{}") }, { time: event.time + 1 }])
    assert.notEqual(digestOf({ ...event, ...other }), digest);
  for (const same of [{ epoch: "another" }, { seq: 9 }, { clock: "unsynced" as const }])
    assert.equal(digestOf({ ...event, ...same }), digest);
  // A receipt time that a sync of the clock put right moves the time that stood for it.
  const received = { ...event, time: event.receivedAt };
  const later = { ...event, time: event.receivedAt + 5_000, receivedAt: event.receivedAt + 5_000 };
  assert.equal(digestOf(later), digestOf(received));
});

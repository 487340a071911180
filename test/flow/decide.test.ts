import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError, type ErrorKind } from "../../src/core/errors.ts";
import { decide, type Policy } from "../../src/flow/decide.ts";

const policy: Policy = { attempts: 3, baseMs: 1000, maxMs: 60_000, onFailure: "dead-letter" };
const of = (kind: ErrorKind): HoldfastError => new HoldfastError("HANDLER_FAILED", "No", { kind });

test("decide() retries what is transient for ever, with growing delays up to the ceiling", () => {
  assert.deepEqual(decide(of("transient"), 1, policy, 0), { act: "retry", delayMs: 500 });
  assert.deepEqual(decide(of("transient"), 2, policy, 0), { act: "retry", delayMs: 1000 });
  assert.deepEqual(decide(of("transient"), 1_000_000, policy, 0), {
    act: "retry",
    delayMs: 30_000,
  });
});

test("decide() retries what is refused until its attempts are used up", () => {
  assert.equal(decide(of("refused"), 1, policy, 0.5).act, "retry");
  assert.equal(decide(of("refused"), 2, policy, 0.5).act, "retry");
  assert.deepEqual(decide(of("refused"), 3, policy, 0.5), { act: "dead-letter" });
  assert.deepEqual(decide(of("refused"), 1, { ...policy, attempts: 1 }, 0.5), {
    act: "dead-letter",
  });
});

test("decide() does after the last attempt what onFailure says", () => {
  assert.deepEqual(decide(of("refused"), 3, { ...policy, onFailure: "drop" }, 0), { act: "drop" });
  assert.deepEqual(decide(of("refused"), 3, { ...policy, onFailure: "block" }, 0), {
    act: "retry",
    delayMs: 60_000,
  });
});

test("decide() stops for what only a person or a restart can mend", () => {
  assert.deepEqual(decide(of("fatal"), 1, policy, 0), { act: "stop" });
  assert.deepEqual(decide(of("config"), 99, policy, 0), { act: "stop" });
});

test("decide() waits at least as long as the far side asked for", () => {
  const asked = (retryAfterMs: number): HoldfastError =>
    new HoldfastError("SINK_UNREACHABLE", "Busy", { retryAfterMs });
  assert.deepEqual(decide(asked(90_000), 1, policy, 0), { act: "retry", delayMs: 90_000 });
  assert.deepEqual(decide(asked(100), 1, policy, 0), { act: "retry", delayMs: 500 });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Steps } from "../../src/index.ts";

test("Steps runs what a configuration says, on events that one hands over", () => {
  const steps = new Steps([
    { filter: "payload.n != 3" },
    { window: { tumbling: "1s", aggregate: { sum: "sum(n)" } } },
  ]);
  const payloads = (n: number, time: number): unknown[] =>
    steps.process({ payload: { n }, key: "k", time }).events.map(({ payload }) => payload);
  assert.deepEqual([...payloads(1, 0), ...payloads(2, 500), ...payloads(3, 600)], []);
  assert.deepEqual(payloads(4, 1500), [{ start: 0, end: 1000, key: "k", count: 2, sum: 3 }]);
  const [{ stream, event } = assert.fail("Nothing is late")] = steps.process({
    payload: { n: 5 },
    time: 10,
  }).aside;
  assert.deepEqual([stream, event.payload], ["in-late", { n: 5 }]);
  assert.equal(steps.idleAfterMs(), 1000);
  assert.deepEqual(
    steps.silence().events.map(({ payload }) => payload),
    [{ start: 1000, end: 2000, key: "k", count: 1, sum: 4 }],
  );
});

test("Steps gives what it remembers, and goes on from it elsewhere", () => {
  const written = [{ dedupe: { by: "id", within: "1h" } }];
  const first = new Steps(written);
  assert.equal(first.process({ payload: { id: 1 } }).events.length, 1);
  const kept = first.changes().flatMap(({ value, ...row }) => (value ? [{ ...row, value }] : []));
  assert.equal(first.changes().length, 0);
  const second = new Steps(written);
  second.load(kept);
  assert.equal(second.process({ payload: { id: 1 } }).events.length, 0);
  assert.equal(second.process({ payload: { id: 2 } }).events.length, 1);
});

test("Steps leaves nothing of an event that a step throws on, and refuses steps that cannot be meant", () => {
  const steps = new Steps([{ sample: { oneOf: 2 } }, { filter: "payload.n > 0" }]);
  assert.throws(() => steps.process({ payload: {} }), { code: "HANDLER_FAILED" });
  assert.equal(steps.process({ payload: { n: 1 } }).events.length, 1);
  assert.throws(() => new Steps([{ filter: "true" }, { deadband: { field: "t" } }]), {
    code: "CONFIG_INVALID",
    message: /Step 1\.deadband: either delta or percent/,
  });
});

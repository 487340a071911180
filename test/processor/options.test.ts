import assert from "node:assert/strict";
import { test } from "node:test";
import type { Failure } from "superstruct";
import { createStep } from "../../src/processor/kinds.ts";
import { processorOptions } from "../../src/processor/options.ts";

/** The failures of a processor's options, as `path: message`. */
function problems(value: unknown): string[] {
  const [error] = processorOptions.struct.validate(value, { coerce: true });
  return (error?.failures() ?? []).map(
    (failure: Failure) =>
      `${failure.path.join(".")}: ${failure.refinement ?? ""} ${failure.message}`,
  );
}

test("processorOptions fills in the contract's defaults", () => {
  const [, value] = processorOptions.struct.validate({ from: "readings" }, { coerce: true });
  assert.deepEqual(value, {
    from: "readings",
    steps: [],
    batch: { max: 500, wait: 1000 },
    timeout: 30_000,
    order: "key",
    retry: { attempts: 5, backoff: 1000, maxBackoff: 300_000 },
    onFailure: "dead-letter",
  });
});

test("processorOptions takes one stream or several, and steps by their names", () => {
  assert.deepEqual(problems({ from: ["a", "b"], steps: [{ filter: "payload.t > 1" }] }), []);
  assert.match(problems({ from: [] })[0] ?? "", /^from: length/);
});

test("processorOptions refuses a filter that does not compile, with the parser's own words", () => {
  const [problem, ...others] = problems({ from: "a", steps: [{ filter: "payload.t >" }] });
  assert.match(problem ?? "", /^steps\.0\.filter: problem .*Unexpected token: EOF$/);
  assert.deepEqual(others, []);
});

test("processorOptions refuses a step of two kinds, of none, and of one that is unknown", () => {
  assert.match(
    problems({ from: "a", steps: [{}] })[0] ?? "",
    /^steps\.0: problem .*one of the keys/,
  );
  assert.match(problems({ from: "a", steps: [{ fliter: "true" }] })[0] ?? "", /^steps\.0\.fliter/);
});

test("createStep() makes the step that its settings name", () => {
  const step = createStep({ filter: "payload.n > 1" });
  const event = { stream: "a", seq: 1, key: null, time: 0, receivedAt: 0, headers: {} };
  assert.equal(step.process({ ...event, payload: { n: 2 } }).length, 1);
  assert.equal(step.process({ ...event, payload: { n: 1 } }).length, 0);
});

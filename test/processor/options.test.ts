import assert from "node:assert/strict";
import { test } from "node:test";
import type { Failure } from "superstruct";
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
    isolate: false,
    batch: { max: 500, wait: 1000 },
    timeout: 30_000,
    state: { maxKeys: 100_000, maxBytes: 64 * 1024 * 1024 },
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

/** What each kind says of options that cannot be meant. */
const wrongSteps: readonly (readonly [unknown, RegExp])[] = [
  [{ deadband: { field: "t" } }, /either delta or percent/],
  [{ deadband: { field: "t", delta: 1, percent: 1 } }, /either delta or percent/],
  [{ scale: { field: "t", from: "F" } }, /from and to stand together/],
  [{ scale: { field: "t", from: "F", to: "bar" } }, /bar is no unit of what F measures/],
  [{ scale: { field: "t", from: "F", to: "C", factor: 2 } }, /either from and to, or factor/],
  [{ alert: { field: "t" } }, /either above or below/],
  [{ alert: { field: "t", above: 5, clear: 6 } }, /clear is not beyond above/],
  [{ window: { tumbling: "1m", count: 3 } }, /one of tumbling, sliding, session and count/],
  [{ window: {} }, /one of tumbling, sliding, session and count/],
  [{ window: { tumbling: "1m", aggregate: { key: "max(t)" } } }, /key is in every result already/],
  [{ window: { tumbling: "1m", aggregate: { a: "avg" } } }, /is written as avg\(temperature\)/],
  [{ window: { tumbling: "1m", aggregate: { a: "mean(t)" } } }, /mean is none of sum, avg/],
  [{ window: { tumbling: "1m", aggregate: { a: "max()" } } }, /max asks for a field/],
  [{ window: { tumbling: "1m", aggregate: { a: "percentile(t, 101)" } } }, /from 0 to 100/],
  [{ window: { sliding: { size: "5m", every: "1s" } } }, /a part in 60 of it/],
  [{ map: { a: "payload.t +" } }, /Unexpected token/],
  [{ enrich: { table: "sensors.txt" } }, /steps\.0\.enrich\.table/],
];

test("processorOptions refuses steps that cannot be meant, each with its reason", () => {
  for (const [step, reason] of wrongSteps) {
    assert.match(problems({ from: "a", steps: [step] })[0] ?? "", reason, JSON.stringify(step));
  }
});

test("processorOptions refuses a join with a stream that the processor does not read", () => {
  const steps = [{ join: { stream: "weather", as: "w" } }];
  assert.deepEqual(problems({ from: ["a", "weather"], steps }), []);
  assert.match(problems({ from: "a", steps })[0] ?? "", /join asks for stream weather/);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatSeries, parseSeries } from "../../src/core/series.ts";

test("parseSeries() reads what formatSeries() writes, whatever a label holds", () => {
  const name = fc.stringMatching(/^[a-zA-Z_:][a-zA-Z0-9_:]{0,9}$/);
  const label = fc
    .stringMatching(/^[a-zA-Z_][a-zA-Z0-9_]{0,9}$/)
    .filter((text) => text !== "__proto__");
  const value = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom('"', "\\", "\n", ",", "}", "n", "=") }),
  );
  fc.assert(
    fc.property(name, fc.dictionary(label, value), (series, labels) => {
      const read = parseSeries(formatSeries(series, labels));
      assert.deepEqual(read, [["__name__", series], ...Object.entries(labels)]);
    }),
  );
});

test("parseSeries() reads no other text", () => {
  for (const text of [
    "",
    "1a",
    "a{",
    "a{b}",
    'a{b="c"',
    'a{b="c" d="e"}',
    'a{b="c"}x',
    "a b",
    'a{b="c",c}',
  ]) {
    assert.equal(parseSeries(text), null, text);
  }
  assert.deepEqual(parseSeries("a{}"), [["__name__", "a"]]);
});

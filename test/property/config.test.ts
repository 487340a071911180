import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatProblem, loadConfigText } from "../../src/config/load.ts";
import { starterText } from "../../src/config/starter.ts";

const starter = starterText().replaceAll(/^( *)#(?! |$)/gm, "$1");
const whole = starter
  .split("\n")
  .filter((line) => !/^\s*#/.test(line))
  .join("\n");

const judged = (text: string): void => {
  const loaded = loadConfigText(text, "x.yaml");
  if (!("problems" in loaded)) return;
  assert.ok(loaded.problems.length > 0);
  const lines = text.split("\n").length + 1;
  for (const problem of loaded.problems) {
    assert.ok(problem.line >= 1 && problem.line <= lines, formatProblem(problem));
    assert.match(formatProblem(problem), /^x\.yaml:\d+:\d+ \S/);
    assert.ok(!formatProblem(problem).includes("\n"));
  }
};

test("loadConfigText() gives a configuration or its problems, however the file is mutilated", () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary", maxLength: 6 }),
    fc.constantFrom(
      "${X}",
      "${",
      "*a",
      "&a ",
      "- ",
      ": ",
      "{",
      "[",
      "}",
      "\n",
      "  ",
      "!!map ",
      "|",
      "? ",
      "---\n",
      "<<: ",
      "__proto__: ",
    ),
  );
  const cut = fc.record({
    at: fc.nat(whole.length),
    length: fc.oneof(fc.constant(0), fc.nat(40)),
    insert: piece,
  });
  fc.assert(
    fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
      let text = whole;
      for (const { at, length, insert } of cuts) {
        text = text.slice(0, at) + insert + text.slice(at + length);
      }
      judged(text);
    }),
    { numRuns: 100 },
  );
});

test("loadConfigText() gives a configuration or its problems for any value", () => {
  const names = fc.constantFrom(
    "sources",
    "sinks",
    "processors",
    "streams",
    "type",
    "from",
    "a",
    "admin",
    "listen",
    "schema",
    "users",
    "toString",
  );
  const scalar = fc.oneof(
    fc.constantFrom("mqtt", "broker", "file", "_gaps", "a"),
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      scalar,
      fc.array(tie("tree"), { maxLength: 3 }),
      fc.dictionary(names, tie("tree"), { maxKeys: 5 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => judged(JSON.stringify(value))),
    { numRuns: 200 },
  );
});

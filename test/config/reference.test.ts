import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatProblem, loadConfigText } from "../../src/config/load.ts";
import { referenceFiles } from "../../src/config/reference.ts";
import { starterText } from "../../src/config/starter.ts";

const problemsOf = (text: string): string[] => {
  const loaded = loadConfigText(text, "example.yaml");
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};

test("referenceFiles() are what lies in device/ (else: npm run reference)", () => {
  for (const [path, text] of referenceFiles()) {
    assert.equal(readFileSync(path, "utf8"), text, `${path} is stale: run \`npm run reference\``);
  }
});

test("starterText() passes check as it is written", () => {
  assert.deepEqual(problemsOf(starterText()), []);
});

test("starterText() passes check with every option put to use", () => {
  const everything = starterText().replaceAll(/^( *)#(?! |$)/gm, "$1");
  assert.notEqual(everything, starterText());
  assert.deepEqual(problemsOf(everything), []);
});

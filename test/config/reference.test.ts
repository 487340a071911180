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

test("the JSON Schema lets every section be blank that the starter file leaves blank", () => {
  const schema = JSON.parse(referenceFiles().get("device/schema.json") ?? "") as {
    properties: Record<string, { type: unknown }>;
  };
  // Of what follows a section's name, only lines that are no comment are in use.
  const lines = starterText()
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line));
  const blank = lines
    .filter((line, index) => /^\w+:$/.test(line) && !/^\s/.test(lines[index + 1] ?? ""))
    .map((line) => line.slice(0, -1));
  assert.ok(blank.includes("journal"), blank.join(", "));
  for (const name of blank)
    assert.deepEqual(schema.properties[name]?.type, ["object", "null"], name);
});

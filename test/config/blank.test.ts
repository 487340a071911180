import assert from "node:assert/strict";
import { test } from "node:test";
import type { Config } from "../../src/config/config.ts";
import { formatProblem, loadConfigText } from "../../src/config/load.ts";

const problemsOf = (text: string): string[] => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};
const configOf = (text: string): Config => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "config" in loaded
    ? loaded.config
    : assert.fail(loaded.problems.map(formatProblem).join("\n"));
};
const least = "sources: { board: { type: system, stream: system } }\n";

test("loadConfigText() takes a section, or a group in it, with nothing after it as empty", () => {
  const config = configOf(
    `journal:\n  # linger: 2s\nsinks:\n${least}processors:\n  p:\n    from: system\n    to: b\n    retry:\n`,
  );
  assert.equal(config.journal.linger, 1000);
  assert.deepEqual(config.sinks, {});
  assert.equal(config.processors["p"]?.retry.attempts, 5);
});

test("loadConfigText() takes a declared stream with nothing after it as declared", () => {
  const text = `${least}streams:\n  x:\nsinks: { c: { type: console, from: [x] } }\n`;
  assert.equal(configOf(text).streams["x"]?.format, "json");
});

test("loadConfigText() refuses an unknown key, with or without something after it", () => {
  for (const text of [`${least}jornal:\n`, `${least}jornal: 1\n`]) {
    assert.match(problemsOf(text).join("\n"), /^agent\.yaml:2:1 jornal: unknown key.*journal\?\)$/);
  }
  assert.match(
    problemsOf("sources: { b: { type: system, stream: s, evry } }\n").join("\n"),
    /^agent\.yaml:1:42 sources\.b\.evry: unknown key.*every\?\)$/,
  );
});

test("loadConfigText() lets no source, sink or user vanish that has nothing after its name", () => {
  assert.match(
    problemsOf("sources:\n  board: { type: system, stream: s }\n  other:\n").join("\n"),
    /^agent\.yaml:3:3 sources\.other\.type: missing, allowed: one of mqtt/,
  );
  assert.match(problemsOf(`${least}sinks:\n  cloud:\n`).join("\n"), /sinks\.cloud\.type: missing/);
  assert.match(
    problemsOf("sources: { b: { type: broker, stream: s, users: { esp: } } }\n").join("\n"),
    /^agent\.yaml:1:\d+ sources\.b\.users\.esp: found nothing, allowed: text, \{ file: PATH \}/,
  );
});

test("loadConfigText() never takes a protection with nothing after it for none", () => {
  assert.match(
    problemsOf(`${least}admin:\n  token:\n`).join("\n"),
    /^agent\.yaml:3:\d+ admin\.token: found nothing/,
  );
  const told = problemsOf("sources:\n  b:\n    type: broker\n    stream: s\n    tls:\n");
  assert.deepEqual(
    told.map((line) => line.replace(/, allowed.*/, "")),
    ["agent.yaml:5:5 sources.b.tls.cert: missing", "agent.yaml:5:5 sources.b.tls.key: missing"],
  );
  assert.match(
    problemsOf(`${least}journal:\n  maxBytes:\n`).join("\n"),
    /found nothing, allowed: a size/,
  );
});

test("loadConfigText() tells of a missing space after a colon, and hides what stands there", () => {
  const [told, ...more] = problemsOf(
    "sources: { a: { type: mqtt, url: mqtt://x, topics: [a], stream: s, password:hunter2 } }\n",
  );
  assert.equal(
    told,
    "agent.yaml:1:68 sources.a.password:…: found no space after the colon, allowed: password: VALUE",
  );
  assert.deepEqual(more, []);
});

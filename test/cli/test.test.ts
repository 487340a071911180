import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { runCommandLine } from "../../src/cli/commands.ts";
import { recordingIo } from "../support/recording-io.ts";
import { tempDir } from "../support/temp-dir.ts";

const examples = "device/examples";

async function run(...files: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = recordingIo();
  const code = await runCommandLine(["test", ...files], io, "0.1.0");
  return { code, out: io.stdout(), err: io.stderr() };
}

/** The shipped example, with its cases changed. */
function changed(t: TestContext, ...changes: readonly (readonly [string, string])[]): string {
  const folder = tempDir(t);
  cpSync(examples, folder, { recursive: true });
  const file = join(folder, "greenhouse.cases.yaml");
  let text = readFileSync(file, "utf8");
  for (const [from, to] of changes) {
    assert.ok(text.includes(from), from);
    text = text.replace(from, to);
  }
  writeFileSync(file, text);
  return file;
}

test("test passes the cases that are shipped", async () => {
  const { code, out, err } = await run(join(examples, "greenhouse.cases.yaml"));
  assert.equal(code, 0, out);
  assert.match(out, /\n5 passed, 0 failed\n$/);
  assert.equal(err, "");
});

test("test says what differs, by stream and place, and ends with 1", async (t) => {
  const file = changed(
    t,
    ["max: 23", "max: 24"],
    ["state: cleared", "state: firing"],
    ["      readings.1m: []", "      readings.1m: [{ gone: true }]"],
    ['reason: "device: found 7"', "reason: another"],
  );
  const { code, out } = await run(file);
  assert.equal(code, 1);
  assert.match(out, /failed a minute's figures.*\n {4}readings\.1m: - expected, \+ found\n/);
  assert.match(out, /\n {4}- \{"start".*"max":24/);
  assert.match(out, /\n {4}\+ \{"start".*"max":23/);
  assert.match(out, /\n {6}\{"alert":"too hot","state":"firing".*\n {4}- .*\n {4}\+ .*cleared/);
  assert.match(out, /\n {4}- \{"gone":true\}\n/);
  assert.match(out, /readings \(dead letters\): - expected, \+ found/);
  assert.match(out, /\n1 passed, 4 failed\n$/);
});

test("test fails a case whose events are refused and not expected to be", async (t) => {
  const { code, out } = await run(
    changed(t, ["    deadLetters:\n", "    partial: true\n    given2:\n"]),
  );
  assert.equal(code, 1, out);
  const { out: second } = await run(
    changed(t, [
      '    deadLetters:\n      readings:\n        - { code: EVENT_INVALID, reason: "device: found 7" }\n',
      "",
    ]),
  );
  assert.match(second, /\n {4}\+ \{"code":"EVENT_INVALID"/);
});

test("test runs handlers with their state and retries, and tells a handler's own error", async (t) => {
  const folder = tempDir(t);
  writeFileSync(
    join(folder, "handler.mjs"),
    `export default async (event, context) => {
      if (event.payload.n === 3 && context.attempt < 3) throw new Error("Not yet");
      if (event.payload.n === 4) throw new Error("Never");
      const sum = ((await context.state.get("sum")) ?? 0) + event.payload.n;
      context.state.put("sum", sum);
      return { sum };
    };`,
  );
  writeFileSync(
    join(folder, "agent.yaml"),
    `sources: { in: { type: system, stream: a } }
processors:
  sum: { from: a, handler: ./handler.mjs, to: b }
  twice: { from: b, steps: [{ map: { twice: payload.sum * 2 } }], to: c }
`,
  );
  const file = join(folder, "cases.yaml");
  writeFileSync(
    file,
    `cases:
  - name: sums
    given:
      - { stream: a, payload: { n: 1 } }
      - { stream: a, payload: { n: 4 } }
      - { stream: a, payload: { n: 3 } }
    expect: { b: [{ sum: 1 }, { sum: 4 }], c: [{ twice: 2 }, { twice: 8 }] }
    deadLetters: { a: [{ reason: Never, payload: { n: 4 } }] }
`,
  );
  const { code, out } = await run(file);
  assert.equal(code, 0, out);
});

test("test says what is wrong with a file of cases", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "cases.yaml");
  for (const [text, reason] of [
    ["cases: []", /cases/],
    ["cases: [{ name: x, given: [{}] }]", /either stream and payload, or wait/],
    ["start: soon\ncases: [{ name: x, given: [{ wait: 1s }] }]", /no time in ISO 8601/],
    ["cases: [{ name: x, given: [{ wait: 1s, what: 2 }] }]", /cases\.0\.given\.0\.what/],
    ["cases: [", /Cannot read/],
  ] as const) {
    writeFileSync(file, text);
    const { code, err } = await run(file);
    assert.equal(code, 1);
    assert.match(err, reason);
  }
  assert.equal((await run()).code, 2);
});

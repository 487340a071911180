import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkCommand } from "../../src/cli/check.ts";
import type { Command } from "../../src/cli/command.ts";
import { initCommand } from "../../src/cli/init.ts";
import { HoldfastError } from "../../src/core/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

async function run(
  command: Command,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const code = await command.run(args, {
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
  });
  return { code, out, err };
}

const flow = `sources:
  board: { type: system, stream: system }
  far: { type: mqtt, url: "mqtt://x", topics: [a], stream: a, password: { file: /nowhere/at/all } }
processors:
  hot: { from: [system, a], steps: [{ filter: "has(payload.x)" }], handler: ./handler.js, to: alarms }
sinks:
  screen: { type: console, from: [alarms] }
`;

test("checkCommand explains a configuration that is right, and warns of secrets that it cannot read", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "agent.yaml");
  writeFileSync(
    file,
    `device: { id: greenhouse-1 }\njournal: { path: /var/lib/x/journal.db }\n${flow}`,
  );
  writeFileSync(join(folder, "handler.js"), "export default () => {};\n");
  const { code, out, err } = await run(checkCommand, "--config", file);
  assert.equal(code, 0, out);
  for (const words of [
    "is right",
    "→ system",
    "system, a → alarms",
    "alarms →",
    "127.0.0.1:8000",
    "greenhouse-1",
    "/var/lib/x/journal.db (power-loss",
    "no token: only this machine",
  ]) {
    assert.ok(out.includes(words), `${words} is not in ${out}`);
  }
  assert.match(err, /sources\.far\.password: Cannot read secret \/nowhere.*\(warning\)/);
});

test("checkCommand names streams that nothing reads", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(
    file,
    "sources: { b: { type: system, stream: s }, c: { type: system, stream: r } }\n",
  );
  assert.match((await run(checkCommand, "-c", file)).out, /^Kept for replay +r, s: nothing reads/m);
  writeFileSync(
    file,
    "sources: { b: { type: system, stream: s } }\nsinks: { c: { type: console, from: [s] } }\n",
  );
  assert.doesNotMatch((await run(checkCommand, "-c", file)).out, /nothing reads/);
});

test("checkCommand fails for a handler that cannot be loaded, at its line, beside every other problem", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "agent.yaml");
  writeFileSync(file, `log: { level: loud }\n${flow}`);
  const { code, out } = await run(checkCommand, "-c", file);
  assert.equal(code, 1);
  const [level, handler, count] = out.replaceAll(`${folder}/`, "").split("\n");
  assert.match(level ?? "", /^agent\.yaml:1:15 log\.level: found "loud"/);
  assert.equal(
    handler,
    "agent.yaml:6:77 processors.hot.handler: Cannot load handler handler.js: no such file, allowed: a module whose default export is a function",
  );
  assert.equal(count, "agent.yaml has 2 problems");
});

test("checkCommand does not show a handler's path that came out of the environment", async (t) => {
  process.env["HOLDFAST_TEST_SECRET"] = "hunter2";
  t.after(() => delete process.env["HOLDFAST_TEST_SECRET"]);
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(file, flow.replace("./handler.js", '"${HOLDFAST_TEST_SECRET}"'));
  const { out } = await run(checkCommand, "-c", file);
  assert.match(
    out,
    /:5:77 processors\.hot\.handler: found text out of the environment, allowed: a module/,
  );
  assert.doesNotMatch(out, /hunter2/);
});

test("checkCommand asks a handler module for a function", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "agent.yaml");
  writeFileSync(file, flow);
  writeFileSync(join(folder, "handler.js"), "export default 7;\n");
  const { code, out } = await run(checkCommand, "-c", file);
  assert.equal(code, 1);
  assert.match(out, /:5:77 processors\.hot\.handler: .* its default export is of type number/);
});

const enriched = (options: string): string => `sources: { b: { type: system, stream: s } }
processors:
  placed:
    from: s
    steps:
      - filter: "true"
      - enrich: { ${options} }
    to: placed
`;

/** [what the table holds; null: there is none, the step's options, what is said of it] */
const tables: readonly (readonly [string | null, string, RegExp])[] = [
  [
    null,
    "table: ./t.csv",
    /^agent\.yaml:7:26 processors\.placed\.steps\[1\]\.enrich\.table: Cannot read table t\.csv: no such file, allowed: a \.csv or \.json table with a column key, another value in each row$/,
  ],
  [
    "sensor,place\na,hall\n",
    "table: ./t.csv, column: sensr",
    /^agent\.yaml:7:43 .*\.enrich\.column: it has no column sensr, allowed: a column of the table: sensor, place \(did you mean sensor\?\)$/,
  ],
  [
    "sensor,place\n",
    "table: ./t.csv",
    /^agent\.yaml:7:26 .*\.enrich\.table: Cannot read table t\.csv: it has no column key, allowed: .* a column key,/,
  ],
  ["key,place\na\n", "table: ./t.csv", /:7:26 .*table: .*: row 1 has 1 cells, the first line 2/],
  ["key\na\na\n", "table: ./t.csv", /:7:26 .*table: .*: row 2 has key a a second time/],
  ['[{"place": "hall"}]', "table: ./t.json", /:7:26 .*table: .*: it has no column key/],
  ["[{]", "table: ./t.json", /:7:26 .*table: Cannot read table t\.json: .*JSON/],
  ["key,place\na,hall\n", "table: ./t.txt", /:7:26 .*table: found ".\/t\.txt", allowed: the path/],
];

for (const [held, options, said] of tables) {
  test(`checkCommand reads the table of { ${options} } and finds ${held === null ? "none" : JSON.stringify(held)}`, async (t) => {
    const folder = tempDir(t);
    const file = join(folder, "agent.yaml");
    writeFileSync(file, enriched(options));
    const [, name = ""] = /\.\/(t\.\w+)/.exec(options) ?? [];
    if (held !== null) writeFileSync(join(folder, name), held);
    const { code, out } = await run(checkCommand, "-c", file);
    assert.equal(code, 1, out);
    const [problem = "", count] = out.replaceAll(`${folder}/`, "").split("\n");
    assert.match(problem, said);
    assert.equal(count, "agent.yaml has 1 problem");
  });
}

test("checkCommand is content with a table that an enrich step can use", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "agent.yaml");
  writeFileSync(file, enriched("table: ./t.csv, column: sensor"));
  writeFileSync(join(folder, "t.csv"), "sensor,place\na,hall\n");
  const { code, out } = await run(checkCommand, "-c", file);
  assert.equal(code, 0, out);
});

test("checkCommand lists every problem and fails", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(file, "sources: {}\nlog: { level: loud }\nsinks: { a: { type: consol } }\n");
  const { code, out } = await run(checkCommand, "-c", file);
  assert.equal(code, 1);
  assert.match(
    out,
    /:1:\d+ sources: .*\n.*:2:\d+ log\.level: .*\n.*:3:\d+ sinks\.a\.type: .*\n.*3 problems\n$/,
  );
});

test("initCommand writes a starter file that passes check, and never over another", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  const written = await run(initCommand, file);
  assert.equal(written.code, 0);
  assert.ok(written.out.includes(`holdfast run --config ${file}`));
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal((await run(checkCommand, "-c", file)).code, 0);
  writeFileSync(file, "mine");
  await assert.rejects(
    run(initCommand, file),
    (error) => error instanceof HoldfastError && /is there already/.test(error.message),
  );
  assert.equal(readFileSync(file, "utf8"), "mine");
});

import assert from "node:assert/strict";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { formatProblem, loadConfig, loadConfigText } from "../../src/config/load.ts";
import { tempDir } from "../support/temp-dir.ts";

const least = "sources: { board: { type: system, stream: system } }\n";
const problemsOf = (text: string): string[] => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};
const problemsIn = async (file: string): Promise<string[]> => {
  const loaded = await loadConfig(file);
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};

test("loadConfig() reads no more of a file than it may have", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(file, "");
  // Sparse: takes no disk, and would take more memory than a small board has.
  truncateSync(file, 8 * 1024 ** 3);
  const before = process.memoryUsage().rss;
  assert.deepEqual(await problemsIn(file), [
    `${file}:1:1 found more than 1 MiB, allowed: at most 1 MiB`,
  ]);
  assert.ok(process.memoryUsage().rss - before < 64 * 1024 ** 2);
});

test("loadConfig() names the line of what is not UTF-8", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(
    file,
    Buffer.concat([Buffer.from(`${least}device: { id: "b`), Buffer.from([0xfc, 0x72])]),
  );
  assert.deepEqual(await problemsIn(file), [
    `${file}:2:1 found bytes that are not UTF-8, allowed: a text file in UTF-8`,
  ]);
  writeFileSync(file, `\uFEFF${least.replaceAll("\n", "\r\n")}`);
  assert.deepEqual(await problemsIn(file), []);
});

test("loadConfigText() tells 200 problems of a file that is none of ours, and that there are more", () => {
  const keys = Array.from({ length: 60_000 }, (_, index) => `k${index}: 1\n`).join("");
  const entries = Array.from(
    { length: 9_000 },
    (_, i) => `  s${i}: { type: console, from: [n${i}] }\n`,
  );
  const scalars = `${least}streams:\n${keys.replaceAll(/^/gm, "  ").trimEnd()}\n`;
  const places = "  - ${HOLDFAST_TEST_NONE}\n".repeat(35_000);
  for (const text of [
    keys,
    `${least}sinks:\n${entries.join("")}`,
    `${least}a:\n${places}`,
    scalars,
  ]) {
    const before = process.cpuUsage();
    const told = problemsOf(text);
    const cpuMs = process.cpuUsage(before).user / 1000;
    assert.equal(told.length, 201);
    assert.match(told.at(-1) ?? "", / found more problems than the 200 above$/);
    // Without a bound the first of these took 59 s, and grew by the square.
    assert.ok(cpuMs < 8_000, `${cpuMs} ms`);
  }
});

test("loadConfigText() keeps a problem in one line, whatever the file's names and values are", () => {
  for (const text of [
    `${least}"a\\nb\\e[31m": 1\n`,
    `${least}processors: { p: { from: "a\\nb", to: "a\\nb" } }\n`,
    `${least}http: { listen: "a\\nb" }\nadmin: { listen: "a\\nb" }\n`,
    `sources: { b: { type: broker, stream: s, listen: "a\\nb:1" } }\n`,
    `${least}"${"x".repeat(500)}": 1\n`,
  ]) {
    const told = problemsOf(text);
    assert.notDeepEqual(told, []);
    // oxlint-disable-next-line no-control-regex
    for (const line of told) assert.doesNotMatch(line, /[\0-\x1f\x7f-\x9f]|x{100}/, text);
  }
});

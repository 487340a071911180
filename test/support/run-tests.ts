/**
 * Runs the suites with node:test. `fast`: what needs no system package (src's mirror, properties, house rules);
 * `all`: everything. Exits with the runner's code.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";

const slow = /^test\/(suite|fault|system)\//;
const which = process.argv[2];
const named = process.argv.slice(3);
const files = globSync("test/**/*.test.ts")
  .sort()
  .filter((file) => which === "all" || !slow.test(file))
  .filter((file) => named.length === 0 || named.some((part) => file.includes(part)));
if (files.length === 0) {
  process.stderr.write(`No test file matches ${named.join(" ")}\n`);
  process.exit(2);
}
const result = spawnSync(
  process.execPath,
  ["--test", "--test-timeout=300000", `--test-concurrency=${which === "all" ? 1 : 2}`, ...files],
  { stdio: "inherit" },
);
process.exit(result.status ?? 1);

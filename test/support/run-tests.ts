/**
 * Runs the suites with node:test. `fast`: what needs no system package (src's mirror, properties, house rules);
 * `all`: everything but `release`: the proofs of what `npm run build:release` has made. Exits with the runner's code.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { resolve } from "node:path";

const slow = /^test\/(suite|fault|system)\//;
const which = process.argv[2];
const named = process.argv.slice(3);
const files = globSync("test/**/*.test.ts")
  .sort()
  .filter((file) => (which === "release") === file.startsWith("test/release/"))
  .filter((file) => which !== "fast" || !slow.test(file))
  .filter((file) => named.length === 0 || named.some((part) => file.includes(part)));
if (files.length === 0) {
  process.stderr.write(`No test file matches ${named.join(" ")}\n`);
  process.exit(2);
}
const result = spawnSync(
  process.execPath,
  [
    "--test",
    `--test-timeout=${which === "release" ? 900_000 : 300_000}`,
    `--test-concurrency=${which === "fast" ? 2 : 1}`,
    ...files,
  ],
  {
    stdio: "inherit",
    // As `npm start` has it: half of what a process costs here is to strip the types of what it loads.
    env: { NODE_COMPILE_CACHE: resolve("node_modules/.cache/holdfast"), ...process.env },
  },
);
process.exit(result.status ?? 1);

/**
 * Runs the suites with node:test. `fast`: what needs no system package (src's mirror, properties, house rules);
 * `all`: everything but `release`: the proofs of what `npm run build:release` has made. Exits with 1 when one fails.
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
/** What these hold against a clock would be held against their neighbour as well. */
const alone = /^test\/(system\/(stop|journal-sick|backlog)|fault\/journal-backlog)\.test\.ts$/;

function passes(some: readonly string[], concurrency: number): boolean {
  if (some.length === 0) return true;
  const limitMs = which === "release" ? 900_000 : 600_000;
  const { status } = spawnSync(
    process.execPath,
    ["--test", `--test-timeout=${limitMs}`, `--test-concurrency=${concurrency}`, ...some],
    {
      stdio: "inherit",
      // As `npm start` has it: half of what a process costs here is to strip the types of what it loads.
      env: { NODE_COMPILE_CACHE: resolve("node_modules/.cache/holdfast"), ...process.env },
    },
  );
  return status === 0;
}

// Most of what is not release's waits for processes and time-outs: two at a time take half as long.
const together = files.filter((file) => which !== "release" && !alone.test(file));
const isGood = passes(together, 2);
const rest = files.filter((file) => !together.includes(file));
process.exitCode = passes(rest, 1) && isGood ? 0 : 1;

/**
 * The long runs: `npm run torture [-- NAME … --kills N --seed N]`. Each prints its seed, duration and counts, and
 * fails when a promise was broken.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { killRun } from "./kills.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
  },
});

const runs: Record<string, () => Promise<boolean>> = { kills };
const chosen = positionals.length > 0 ? positionals : Object.keys(runs);
let passed = true;
for (const name of chosen) {
  const run = runs[name];
  if (run === undefined)
    throw new Error(`There is no run ${name}: there is ${Object.keys(runs).join(", ")}`);
  passed = (await run()) && passed;
}
process.exitCode = passed ? 0 : 1;

/** kill -9 under load, through mosquitto and the embedded broker, at QoS 1 and 2. */
async function kills(): Promise<boolean> {
  const [seed, count] = [Number(values.seed), Number(values.kills)];
  let good = true;
  for (const through of ["mosquitto", "broker"] as const) {
    for (const qos of [1, 2] as const) {
      const folder = mkdtempSync(join(tmpdir(), "holdfast-torture-"));
      const rate = 5_000;
      // A kill and a restart take about 1.2 s here; the load must last as long.
      const plan = { folder, through, qos, kills: count, count: count * rate, seed, rate };
      const report = await killRun(plan);
      const allowed = through === "mosquitto" && qos === 2 ? 0 : count * 1000;
      const kept =
        report.missing + report.gaps + report.outOfOrder + report.unmarkedRepeats === 0 &&
        report.markedRepeats <= allowed;
      process.stdout.write(
        `${JSON.stringify({ run: "kills", seed, through, qos, kept, ...report })}\n`,
      );
      if (kept) rmSync(folder, { recursive: true, force: true });
      else process.stdout.write(`  what is left of it: ${folder}\n`);
      good = good && kept;
    }
  }
  return good;
}

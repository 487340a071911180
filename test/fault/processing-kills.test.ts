/** The short form of `npm run torture -- processing`, with its planted fault. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { processingRun } from "../torture/processing.ts";

const short = { kills: 5, count: 12_000, rate: 1_500 };

test("windows, alerts, dedupe and a handler with state give what a batch over the input gives, whatever is killed", async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const report = await processingRun({ ...short, folder: tempDir(t), seed });
  t.diagnostic(JSON.stringify({ seed, ...report }));
  assert.deepEqual(report.wrong, []);
  assert.ok(report.events >= short.count);
  assert.ok(report.windows > 0 && report.alarms > 0);
});

test("the proof goes red when state and cursor are two commits", async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const plan = { kills: 3, count: 4_000, rate: 1_500, fault: "split-units" } as const;
  const report = await processingRun({ ...plan, folder: tempDir(t), seed });
  t.diagnostic(JSON.stringify({ seed, ...plan, ...report }));
  assert.match(report.wrong.join("\n"), /^(figures|alarms|counts) \d+: /m);
});

/** The short form of `npm run torture -- workers`, with its planted faults. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { isKept, workersRun, type WorkersPlan } from "../torture/workers.ts";

const seed = Number(process.env["HOLDFAST_SEED"] ?? Date.now() % 2 ** 31);

for (const store of ["sqlite", "valkey"] as const) {
  for (const isOrdered of [false, true]) {
    const what = isOrdered ? "in order by key" : "in any order";
    test(`Stream has each event's effects once, ${what}, while workers and server are killed (state: ${store})`, async (t) => {
      const plan = { folder: tempDir(t), store, isOrdered, events: 5_000, kills: 20, seed };
      const report = await workersRun(plan);
      t.diagnostic(JSON.stringify({ seed, ...report }));
      assert.ok(report.workerKills >= 18, "too few kills to prove anything");
      assert.ok(isKept(report, isOrdered), JSON.stringify(report));
    });
  }
}

const planted: readonly [string, Pick<WorkersPlan, "store" | "fault">][] = [
  ["a commit is told before it is made", { store: "sqlite", fault: "told-early" }],
  ["a high-water mark stands in place of ranges", { store: "sqlite", fault: "high-water" }],
  ["state and acknowledgement are two steps", { store: "valkey", fault: "two-steps" }],
];
for (const [what, fault] of planted) {
  test(`the proof goes red when ${what}`, async (t) => {
    // The kills fall where they fall: ten may all miss the moment.
    for (let turn = 0; turn < 4; turn += 1) {
      const report = await workersRun({
        folder: tempDir(t),
        isOrdered: false,
        events: 3_000,
        kills: 10,
        seed: seed + turn,
        limitMs: 20_000,
        ...fault,
      });
      t.diagnostic(JSON.stringify({ seed: seed + turn, ...report }));
      if (!isKept(report, false)) return;
    }
    assert.fail("four runs have not seen it");
  });
}

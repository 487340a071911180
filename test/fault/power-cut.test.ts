/** The short form of `npm run torture -- power-cut`: the same run, fewer states, and the faults it must see. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { powerCutRun, type PowerCutPlan, type PowerCutReport } from "../torture/power-cut.ts";

/** A new file, three openings, a kill. */
const short = { lives: [30, 20, 10], agentEvery: 25 };

async function run(
  t: TestContext,
  plan: Pick<PowerCutPlan, "states"> & Partial<PowerCutPlan>,
): Promise<PowerCutReport> {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const report = await powerCutRun({ ...short, seed, ...plan });
  t.diagnostic(JSON.stringify({ seed, ...plan, ...report, broken: report.broken.slice(0, 3) }));
  return report;
}

test("the journal keeps every promise in any state that a power cut can leave", async (t) => {
  const { states, broken } = await run(t, { states: 750 });
  assert.deepEqual(broken, []);
  assert.ok(states >= 500, `${states} states`);
});

// Enough events for a file of 1 MiB to be full, so that what was not passed gives way.
for (const policy of ["drop-oldest", "thin"] as const) {
  test(`a journal that has to ${policy} keeps every promise after a power cut`, async (t) => {
    const { states, broken } = await run(t, { policy, lives: [170, 30], states: 150 });
    assert.deepEqual(broken, []);
    assert.ok(states >= 50, `${states} states`);
  });
}

test("a journal that is compacted while it serves is whole in any state that a power cut can leave", async (t) => {
  const { states, compactions, broken } = await run(t, {
    policy: "compact",
    lives: [70, 40],
    states: 300,
  });
  assert.deepEqual(broken, []);
  assert.ok(states >= 150, `${states} states`);
  assert.ok(compactions >= 3, `${compactions} compactions`);
});

test("a journal of version 1 is whole in any state that a power cut can leave of its migration", async (t) => {
  const { states, broken } = await run(t, { policy: "upgrade", lives: [5], states: 300 });
  assert.deepEqual(broken, []);
  assert.ok(states >= 50, `${states} states`);
});

// Each is seen by what was acknowledged and is not there.
for (const fault of ["synchronous-off", "settle-before-commit", "folder-not-synced"]) {
  test(`the proof sees a journal with the fault ${fault}`, async (t) => {
    const { broken } = await run(t, { states: 200, agentEvery: 10_000, stopsEarly: true, fault });
    assert.match(broken[0] ?? "", /were acknowledged, \d+ are there$/);
  });
}

/** The short form of `npm run torture -- kills`: the same run, fewer kills, and the faults it must see. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { killRun, type KillPlan, type KillReport } from "../torture/kills.ts";

/** Enough for each kill to fall into full load: the run takes some 6 s. */
const short = { kills: 4, count: 20_000, rate: 4_000 };

async function run(
  t: TestContext,
  plan: Pick<KillPlan, "through" | "qos" | "fault">,
): Promise<KillReport> {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const report = await killRun({ ...short, ...plan, folder: tempDir(t), seed });
  t.diagnostic(JSON.stringify({ seed, ...plan, ...report }));
  return report;
}

for (const through of ["mosquitto", "broker"] as const) {
  for (const qos of [1, 2] as const) {
    test(`the agent loses nothing that was acknowledged at QoS ${qos} through ${through} when killed`, async (t) => {
      const report = await run(t, { through, qos });
      assert.equal(report.published, short.count);
      assert.equal(report.missing, 0);
      assert.equal(report.gaps, 0, "seq is dense in the archive");
      assert.equal(report.outOfOrder, 0);
      assert.equal(report.unmarkedRepeats, 0);
      // The embedded broker is at least once across a crash; a window is 500 messages.
      if (through === "mosquitto" && qos === 2) assert.equal(report.markedRepeats, 0);
      else assert.ok(report.markedRepeats <= short.kills * 1000, `${report.markedRepeats}`);
    });
  }
}

test("the run sees an agent that acknowledges before the commit", async (t) => {
  const report = await run(t, { through: "mosquitto", qos: 1, fault: "settle-before-commit" });
  assert.ok(report.missing > 0);
});

test("the run sees a file sink that has forgotten where it stood", async (t) => {
  const report = await run(t, { through: "mosquitto", qos: 1, fault: "forget-marks" });
  assert.ok(report.unmarkedRepeats > 0);
});

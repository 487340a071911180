/** The short form of `npm run torture -- networks`. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { tempDir } from "../support/temp-dir.ts";
import { conditions, networksRun, type ConditionName } from "../torture/networks.ts";

const names = Object.keys(conditions) as ConditionName[];
/** Side by side, as they wait most of the time. */
const groups = [0, 1, 2].map((part) => names.filter((_, index) => index % 3 === part));

describe("networks that lie", { concurrency: true }, () => {
  for (const group of groups) {
    test(`nothing is lost, and health is true, when ${group.join("; ")}`, async (t) => {
      const report = await networksRun({
        folder: tempDir(t),
        names: group,
        isLong: false,
        rate: 40,
      });
      t.diagnostic(JSON.stringify(report));
      assert.deepEqual(report.wrong, []);
      assert.deepEqual(
        report.conditions.filter(({ untrue }) => untrue.length > 0),
        [],
      );
      assert.ok(report.rssGrewKiB < 64 * 1024, `${report.rssGrewKiB} KiB more`);
    });
  }

  test("the proof goes red when the far side loses what it confirmed", async (t) => {
    const fault = (network: { cli(...words: readonly string[]): string }): void =>
      void network.cli("XTRIM", "box:load", "MAXLEN", "10");
    const plan = {
      names: ["the far side accepts and dies before it answers"],
      isLong: false,
      rate: 40,
      fault,
    } as const;
    const report = await networksRun({ folder: tempDir(t), ...plan });
    assert.match(report.wrong.join("\n"), /^valkey: /);
  });
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { createMetricsSource } from "../../src/source/metrics.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { heldIntake } from "../support/held-intake.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

test("the metrics source samples each interval, the board among it, and counts rounds without room", async (t) => {
  const clock = new FakeClock();
  const context = recordingContext("_metrics", clock);
  let rounds = 0;
  const source = createMetricsSource(context, {
    everyMs: 15_000,
    root: "test/source/recorded/pi4",
    sample: async () => ({ rounds: ++rounds }),
  });
  t.after(() => source.close(0));
  const intake = heldIntake();
  await source.open(intake);
  await until("the first round", () => intake.waiting === 1);
  for (const [name, value] of [
    ['holdfast_board_temperature_celsius{sensor="cpu"}', 48.312],
    ['holdfast_board_throttled{cause="underVoltage"}', 1],
    ['holdfast_board_throttled{cause="temperatureLimit"}', 0],
    ['holdfast_board_load{period="5m"}', 0.58],
    ['holdfast_board_bytes{of="memory",state="available"}', 2_912_345 * 1024],
    ['holdfast_board_network_bytes{interface="eth0",direction="received"}', 987_654],
  ] as const) {
    assert.equal(context.sums.get(name), value, name);
  }
  clock.advance(15_000);
  await until("the second round", () => intake.waiting === 2);
  intake.hasSpace = false;
  clock.advance(15_000);
  assert.equal(context.readFigures()["skipped"], 1);
  intake.commit();
  assert.deepEqual(intake.disk.payloads, ['{"rounds":1}', '{"rounds":2}']);
  assert.equal(clock.waiting, 1);
  await source.close(0);
  assert.equal(clock.waiting, 0, "no timer is left");
});

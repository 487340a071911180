import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import { bytesWritten, createWearMeter } from "../../src/host/wear.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";

const MiB = 1024 * 1024;
const hourMs = 3_600_000;

function meter(more: { budgetBytes?: number; lingerMs?: number } = {}) {
  const clock = new FakeClock();
  const context = recordingContext("wear", clock);
  const card = { written: 0 };
  const made = createWearMeter({
    context,
    enduranceBytes: 3650 * 240 * MiB,
    lingerMs: 1000,
    written: async () => card.written,
    ...more,
  });
  /** Lets so many hours pass, in each of which `bytes` are written. */
  const hours = async (count: number, bytes: number): Promise<void> => {
    for (let quarter = 0; quarter < count * 4; quarter++) {
      card.written += bytes / 4;
      clock.advance(hourMs / 4);
      await turn();
    }
  };
  return { clock, context, card, made, hours };
}

test("the figures are bytes a day, bytes for each that came, and the years that a card lasts", async () => {
  const { context, made, hours } = meter();
  made.start();
  await turn();
  made.accepted(5 * MiB);
  await hours(2, 10 * MiB);
  const figures = context.readFigures();
  assert.equal(figures["writtenForEach"], 4);
  assert.ok(Math.abs(Number(figures["bytesADay"]) / (240 * MiB) - 1) < 0.01);
  assert.equal(figures["cardYears"], 10);
  made.stop();
});

test("bytes a day are those of the last 24 hours", async () => {
  const { context, made, hours } = meter();
  made.start();
  await turn();
  await hours(30, 100 * MiB);
  await hours(25, 1 * MiB);
  assert.ok(Math.abs(Number(context.readFigures()["bytesADay"]) / (24 * MiB) - 1) < 0.01);
  made.stop();
});

test("a budget widens the linger while more is written, to a minute at most, and narrows it again", async () => {
  const { context, made, hours } = meter({ budgetBytes: 24 * MiB });
  made.start();
  await turn();
  assert.equal(made.lingerMs(), 1000);
  await hours(12, 10 * MiB);
  assert.equal(made.lingerMs(), 60_000);
  assert.match(
    context.lines[0]?.message ?? "",
    /The linger is 2s instead of 1s: .* a day go to the card, wearBudget is 24\.0 MiB/,
  );
  assert.equal(context.readFigures()["lingerMs"], 60_000);
  await hours(24, 0.1 * MiB);
  assert.equal(made.lingerMs(), 1000);
  made.stop();
});

test("without a budget the linger stays, whatever is written", async () => {
  const { made, hours } = meter();
  made.start();
  await turn();
  await hours(12, 1000 * MiB);
  assert.equal(made.lingerMs(), 1000);
  made.stop();
});

test("bytesWritten() reads the kernel's count", async () => {
  const written = await bytesWritten();
  assert.ok(written !== undefined && written >= 0);
});

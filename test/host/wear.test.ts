import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import type { CardLife } from "../../src/host/card.ts";
import { bytesWritten, createWearMeter } from "../../src/host/wear.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";

const MiB = 1024 * 1024;
const hourMs = 3_600_000;

function meter(
  more: { budgetBytes?: number; lingerMs?: number; life?: () => Promise<CardLife | null> } = {},
) {
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
  await hours(40, 0.1 * MiB);
  assert.equal(made.lingerMs(), 1000);
  made.stop();
});

test("a budget that the longest linger does not keep is told in the health, until it is kept", async () => {
  const { context, made, hours } = meter({ budgetBytes: 24 * MiB });
  made.start();
  await turn();
  await hours(12, 10 * MiB);
  const { status, detail } = context.now();
  assert.equal(status, "degraded");
  assert.match(
    detail ?? "",
    /^240\.\d MiB a day go to the card, wearBudget is 24\.0 MiB, and the linger is 1m: thin/,
  );
  assert.ok(Math.abs(Number(context.readFigures()["bytesADay"]) / (240 * MiB) - 1) < 0.05);
  await hours(200, 0.5 * MiB);
  assert.equal(context.now().status, "ok");
  made.stop();
});

test("bytes a day are shown five minutes after the start, and a change of the linger does not hide them", async () => {
  const { clock, card, context, made } = meter({ budgetBytes: 24 * MiB });
  made.start();
  await turn();
  const shown: boolean[] = [];
  for (let minute = 1; minute <= 20; minute++) {
    card.written += MiB;
    clock.advance(60_000);
    await turn();
    shown.push(context.readFigures()["bytesADay"] !== null);
  }
  assert.equal(shown.indexOf(true), 4);
  assert.ok(shown.slice(4).every(Boolean));
  assert.equal(made.lingerMs(), 2000);
  made.stop();
});

test("a card that says its end is near degrades, and says what to do", async () => {
  let life: CardLife = { usedPercent: 80, reserve: "normal" };
  const { clock, context, made } = meter({ life: async () => life });
  const look = async (): Promise<void> => {
    clock.advance(60_000);
    for (let round = 0; round < 5; round++) await turn();
  };
  made.start();
  await look();
  assert.equal(context.now().status, "ok");
  assert.equal(context.readFigures()["cardUsedPercent"], 80);
  assert.equal(context.sums.get("holdfast_card_used_ratio{}"), 0.8);
  life = { usedPercent: 90, reserve: "urgent" };
  await look();
  assert.deepEqual(context.now(), {
    status: "degraded",
    detail:
      "The card says that up to 90 % of its life are used, and less than 10 % of its reserve are left: replace it before it fails",
  });
  life = { usedPercent: 110, reserve: "unknown" };
  await look();
  assert.match(context.now().detail ?? "", /^The card says that all of its life are used: replace/);
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

test("a budget does not make the linger swing to and fro", async () => {
  // What 10 events a second cost with so many seconds of linger (npm run bench -- wear).
  const commitBytes = (events: number): number =>
    events <= 50 ? 7365 + 53.8 * events : 10_056 + 32.4 * (events - 50);
  const dayBytes = commitBytes(10) * 86_400;
  for (const share of [0.95, 0.85, 0.76, 0.65, 0.5, 0.4, 0.3]) {
    const { clock, card, context, made } = meter({ budgetBytes: dayBytes * share });
    made.start();
    await turn();
    for (let seconds = 0; seconds < 24 * 3600; seconds += 60) {
      const linger = made.lingerMs() / 1000;
      card.written += (commitBytes(10 * linger) / linger) * 60;
      clock.advance(60_000);
      await turn();
    }
    made.stop();
    assert.ok(context.lines.length <= 3, `${share}: ${context.lines.length} changes in a day`);
  }
});

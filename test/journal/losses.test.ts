import assert from "node:assert/strict";
import { test } from "node:test";
import { Losses, overMs } from "../../src/journal/losses.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { append, event, openJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const drop = (stream: string, reason: string, events: number) => [
  { stream, from: 1, to: events, events, reason },
];

test("sentence() names streams, reasons, since when and what helps, until five minutes after the last", () => {
  const clock = new FakeClock();
  const context = recordingContext("journal", clock);
  const losses = new Losses(context);
  assert.equal(losses.sentence(), null);
  const since = new Date(clock.wall).toISOString();
  losses.note(drop("telemetry", "thinned", 90));
  clock.advance(60_000);
  losses.note([...drop("telemetry", "thinned", 10), ...drop("old", "expired", 3)]);
  const said = losses.sentence() ?? "";
  assert.match(
    said,
    new RegExp(`since ${since}: telemetry 100 \\(thinned\\), old 3 \\(expired\\)`),
  );
  assert.match(said, /raise journal\.maxBytes or the stream's own, raise the stream's maxAge$/);
  assert.deepEqual(losses.figures(), { dropped: 103, losingSince: since });
  clock.advance(overMs);
  assert.notEqual(losses.sentence(), null);
  clock.advance(1);
  assert.equal(losses.sentence(), null);
  assert.deepEqual(losses.figures(), { dropped: 103, losingSince: null });
  losses.note(drop("telemetry", "quota", 1));
  assert.match(losses.sentence() ?? "", /: telemetry 1 \(quota\);/);
});

test("note() logs the first at once and then a sum each minute, and a dead letter's bound is no loss of room", () => {
  const clock = new FakeClock();
  const context = recordingContext("journal", clock);
  const losses = new Losses(context);
  for (let index = 0; index < 120; index++) {
    losses.note(drop("s", "quota", 2));
    clock.advance(1000);
  }
  assert.deepEqual(
    context.lines.map(({ message }) => message),
    ["Stream s lost 2 events to quota", "Stream s lost 120 events to quota"],
  );
  assert.equal(context.sums.get('holdfast_journal_dropped_total{stream="s",reason="quota"}'), 240);
  clock.advance(overMs + 1);
  losses.note(drop("s", "dead-letter-bound", 1));
  assert.equal(losses.sentence(), null);
});

test("the journal's health is degraded while it drops, and ok again five minutes after", async (t) => {
  const clock = new FakeClock();
  const { journal, context } = await openJournal(t, {
    clock,
    groups: [{ group: "sink", streams: ["s"] }],
    streams: new Map([["s", { maxAgeMs: 60_000 }]]),
  });
  const done = append(journal, "s", event("x"));
  journal.commitSoon();
  await done;
  await until("health to tell it", () => {
    clock.advance(6_000);
    return context.now().status === "degraded";
  });
  assert.match(context.now().detail ?? "", /s 1 \(expired\)/);
  const began = clock.monotonic;
  await until("health to be well again", () => {
    clock.advance(6_000);
    return context.now().status === "ok";
  });
  assert.ok(clock.monotonic - began >= overMs - 12_000, String(clock.monotonic - began));
});

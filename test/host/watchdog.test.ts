import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pulse } from "../../src/core/pulse.ts";
import { startWatchdog } from "../../src/host/watchdog.ts";
import { FakeClock } from "../support/fake-clock.ts";

interface Watched {
  readonly clock: FakeClock;
  readonly part: { steps: number; owes: boolean };
  readonly lines: string[];
  readonly fed: () => number;
  readonly pulses: Pulse[];
}

/** Looks come each 10 s. */
function watched(): Watched {
  const clock = new FakeClock();
  const part = { steps: 0, owes: false };
  const lines: string[] = [];
  let fed = 0;
  const pulses: Pulse[] = [{ name: "the part", steps: () => part.steps, owes: () => part.owes }];
  startWatchdog({
    clock,
    log: { error: (line) => lines.push(line), info: (line) => lines.push(line) },
    watchdogMs: 40_000,
    pulses: () => pulses,
    feed: () => (fed += 1),
  });
  return { clock, part, lines, pulses, fed: () => fed };
}

test("startWatchdog() feeds four times in the manager's patience while nothing is owed", () => {
  const { clock, fed } = watched();
  clock.advance(40_000);
  assert.equal(fed(), 5);
});

test("startWatchdog() feeds while a part owes one step after another and makes them", () => {
  const { clock, part, fed } = watched();
  part.owes = true;
  for (let look = 0; look < 20; look++) {
    part.steps += 1;
    clock.advance(10_000);
  }
  assert.equal(fed(), 21);
});

test("startWatchdog() starves when a part owes the same step at three looks, and says which part", () => {
  const { clock, part, lines, fed } = watched();
  part.owes = true;
  clock.advance(20_000);
  assert.equal(fed(), 3, "half of the patience is the part's");
  clock.advance(100_000);
  assert.equal(fed(), 3);
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? "", /the part makes no step/);
});

test("startWatchdog() feeds again when the part has moved, or is gone", () => {
  const { clock, part, lines, pulses, fed } = watched();
  part.owes = true;
  clock.advance(50_000);
  assert.equal(fed(), 3);
  part.steps += 1;
  clock.advance(10_000);
  assert.equal(fed(), 4);
  assert.match(lines.at(-1) ?? "", /fed again/);
  clock.advance(50_000);
  assert.equal(fed(), 5);
  // A reload: the parts of before are closed.
  pulses.length = 0;
  clock.advance(10_000);
  assert.equal(fed(), 6);
});

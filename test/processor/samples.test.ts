import assert from "node:assert/strict";
import { test } from "node:test";
import {
  increasePerSecond,
  looseMax,
  mergedSamples,
  noSamples,
  samplesWith,
  timeWeightedAverage,
  type Samples,
} from "../../src/processor/samples.ts";

const samplesOf = (list: readonly (readonly [number, number])[]): Samples =>
  list.reduce((samples, [time, value]) => samplesWith(samples, time, value), noSamples);
const ramp = Array.from({ length: 5_000 }, (_, index): [number, number] => [index * 1000, index]);

test("samplesWith() keeps its bound, and says of 5,000 samples what all of them say", () => {
  const samples = samplesOf(ramp);
  assert.ok(samples.s.length <= looseMax);
  assert.equal(increasePerSecond(samples), 1);
  assert.equal(timeWeightedAverage(samples, 5_000_000), 2499.5);
});

test("samplesWith() puts what comes late where it belongs, as long as that is not settled", () => {
  const shuffled = ramp.map((pair, index) => ramp[index ^ 7] ?? pair);
  assert.equal(timeWeightedAverage(samplesOf(shuffled), 5_000_000), 2499.5);
  const late = samplesWith(samplesOf(ramp), 0, 1_000_000);
  assert.equal(timeWeightedAverage(late, 5_000_000), 2499.5);
});

test("mergedSamples() joins what was settled apart", () => {
  const [early, late] = [samplesOf(ramp.slice(0, 2_000)), samplesOf(ramp.slice(2_000))];
  for (const both of [mergedSamples(early, late), mergedSamples(late, early)]) {
    assert.equal(increasePerSecond(both), 1);
    assert.equal(timeWeightedAverage(both, 5_000_000), 2499.5);
  }
});

test("increasePerSecond() takes a counter that falls for one that began again", () => {
  const samples = samplesOf([
    [0, 10],
    [1000, 14],
    [2000, 3],
    [4000, 5],
  ]);
  assert.equal(increasePerSecond(samples), 9 / 4);
  assert.equal(increasePerSecond(samplesOf([[0, 1]])), null);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { PublishWindow, type Outcome } from "../../src/sink/publish-window.ts";
import { FakeClock } from "../support/fake-clock.ts";

const refusal = new HoldfastError("SINK_REFUSED", "Payload is bad");
const loss = new HoldfastError("SINK_UNREACHABLE", "Connection is lost");

/** A far side that keeps everything until it is told to answer. */
function farSide(count: number, limit: number) {
  const out: number[] = [];
  const answers = new Map<number, (outcome: Outcome) => void>();
  const waited: number[][] = [];
  let most = 0;
  const clock = new FakeClock();
  const window = new PublishWindow({
    count,
    limit,
    clock,
    timeoutMs: 30_000,
    publish: (index, rest) => {
      out.push(index);
      answers.set(index, rest);
      most = Math.max(most, answers.size);
    },
    waits: () => waited.push([...answers.keys()]),
  });
  const answer = (index: number, outcome: Outcome = null): void => {
    const rest = answers.get(index);
    answers.delete(index);
    rest?.(outcome);
  };
  return { window, out, answer, clock, waited, most: () => most };
}

test("run() sends in order, has no more out than its limit, and ends when all are at rest", async () => {
  const far = farSide(10, 3);
  const ended = far.window.run();
  assert.deepEqual(far.out, [0, 1, 2]);
  for (const index of [2, 0, 1, 3, 5, 4, 6, 7, 8, 9]) far.answer(index);
  assert.deepEqual(await ended, { settled: 10, refused: [] });
  assert.deepEqual(far.out, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(far.most(), 3);
  assert.equal(far.clock.waiting, 0);
});

test("run() names what was refused and goes on", async () => {
  const far = farSide(4, 4);
  const ended = far.window.run();
  for (const index of [0, 1, 2, 3]) far.answer(index, index % 2 === 1 ? refusal : null);
  assert.deepEqual(await ended, {
    settled: 4,
    refused: [
      { index: 1, error: refusal },
      { index: 3, error: refusal },
    ],
  });
});

test("fail() ends it with what is settled without a hole", async () => {
  const far = farSide(6, 6);
  const ended = far.window.run();
  for (const index of [0, 1, 3, 5]) far.answer(index, index === 1 ? refusal : null);
  far.window.fail(loss);
  far.answer(2);
  assert.deepEqual(await ended, {
    settled: 2,
    refused: [{ index: 1, error: refusal }],
    failure: loss,
  });
});

test("run() ends at an answer that is neither good nor a refusal", async () => {
  const far = farSide(3, 1);
  const ended = far.window.run();
  far.answer(0);
  far.answer(1, loss);
  assert.deepEqual(await ended, { settled: 1, refused: [], failure: loss });
  assert.deepEqual(far.out, [0, 1]);
});

test("run() gives up when nothing came to rest for the time-out, counted from the last that did", async () => {
  const far = farSide(4, 4);
  const ended = far.window.run();
  far.clock.advance(20_000);
  far.answer(0);
  far.clock.advance(29_999);
  assert.equal(far.clock.waiting, 1);
  far.clock.advance(1);
  const result = await ended;
  assert.equal(result.settled, 1);
  assert.equal(result.failure?.message, "Broker acknowledged none of 3 messages for 30 s");
});

test("it says when nothing is left to be sent, each time that one of those that are out comes to rest", async () => {
  const far = farSide(4, 2);
  const ended = far.window.run();
  for (const index of [0, 1, 3, 2]) far.answer(index);
  await ended;
  assert.deepEqual(far.waited, [[2, 3], [2]]);
});

test("run() does not grow the stack when a far side answers at once", async () => {
  const count = 100_000;
  const window = new PublishWindow({
    count,
    limit: 1,
    clock: new FakeClock(),
    timeoutMs: 1000,
    publish: (_index, rest) => rest(null),
    waits: () => undefined,
  });
  assert.equal((await window.run()).settled, count);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Poll } from "../../src/source/poll.ts";
import type { Intake } from "../../src/source/source.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";

function line(hasRoom: () => boolean = () => true) {
  const clock = new FakeClock();
  const context = recordingContext("probe", clock);
  const readAt: number[] = [];
  const pending: (() => void)[] = [];
  const start = clock.monotonicMs();
  const poll = new Poll({
    context,
    intake: { hasRoom } as Intake,
    everyMs: 100,
    read: () => {
      readAt.push(clock.monotonicMs() - start);
      return new Promise((resolve) => pending.push(resolve));
    },
  });
  const finish = async (): Promise<void> => {
    for (const resolve of pending.splice(0)) resolve();
    await new Promise(setImmediate);
  };
  return { clock, context, poll, readAt, finish };
}

const skippedSeries = 'holdfast_source_events_total{source="probe",status="skipped"}';

test("Poll keeps its phase, however long a reading takes", async () => {
  const { clock, readAt, finish, poll } = line();
  clock.advance(30);
  await finish();
  clock.advance(70);
  await finish();
  clock.advance(99);
  await finish();
  clock.advance(1);
  assert.deepEqual(readAt, [0, 100, 200]);
  await finish();
  await poll.stop();
});

test("Poll never piles up: what falls due during a reading is skipped and counted", async () => {
  const { clock, context, readAt, finish, poll } = line();
  clock.advance(350);
  await finish();
  assert.deepEqual(readAt, [0]);
  assert.equal(poll.skipped, 3);
  assert.equal(context.sums.get(skippedSeries), 3);
  clock.advance(50);
  assert.deepEqual(readAt, [0, 400]);
  await finish();
  await poll.stop();
});

test("Poll skips while the intake has no room, and goes on when it has", async () => {
  let room = false;
  const { clock, context, readAt, finish, poll } = line(() => room);
  clock.advance(100);
  assert.deepEqual(readAt, []);
  room = true;
  clock.advance(100);
  assert.deepEqual(readAt, [200]);
  assert.equal(context.sums.get(skippedSeries), 2);
  await finish();
  await poll.stop();
});

test("Poll is not moved by a jump of the wall clock", async () => {
  const { clock, readAt, finish, poll } = line();
  await finish();
  clock.wall += 3_600_000;
  clock.advance(99);
  assert.deepEqual(readAt, [0]);
  clock.wall -= 7_200_000;
  clock.advance(1);
  assert.deepEqual(readAt, [0, 100]);
  await finish();
  await poll.stop();
  assert.equal(clock.waiting, 0);
});

test("Poll counts what fell due while the process stood still, and keeps its phase", async () => {
  const { clock, context, readAt, finish, poll } = line();
  await finish();
  let fire: () => void = () => undefined;
  const delays: number[] = [];
  clock.after = (delayMs, action) => {
    delays.push(delayMs);
    fire = action;
    return { cancel: () => undefined };
  };
  clock.advance(100);
  await finish();
  // The timer of 200 fires at 530.
  clock.monotonic += 430;
  fire();
  assert.deepEqual(readAt, [0, 100, 530]);
  assert.deepEqual(delays, [100, 70]);
  assert.equal(context.sums.get(skippedSeries), 3);
  await finish();
  await poll.stop();
});

test("Poll counts no skip when a timer fires a little early", async () => {
  const { clock, finish, poll, readAt } = line();
  await finish();
  // From now on the clock shows 0.8 ms less than the timers go by.
  clock.monotonicMs = () => clock.monotonic - 0.8;
  clock.advance(100);
  await finish();
  clock.advance(101);
  await finish();
  assert.equal(readAt.length, 3);
  assert.equal(poll.skipped, 0);
  await poll.stop();
});

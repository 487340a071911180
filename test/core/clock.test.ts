import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/core/clock.ts";

const monthMs = 31 * 86_400_000;

test("after() and sleep() do not end at once what is longer than Node's timers", async () => {
  const clock = systemClock(() => "synced");
  const ended: string[] = [];
  const stopped = new AbortController();
  const timer = clock.after(monthMs, () => ended.push("after"));
  const sleep = clock.sleep(monthMs, stopped.signal).then(
    () => ended.push("sleep"),
    () => undefined,
  );
  await delay(50);
  timer.cancel();
  stopped.abort();
  await sleep;
  assert.deepEqual(ended, []);
});

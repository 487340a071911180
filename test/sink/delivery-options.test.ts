import assert from "node:assert/strict";
import { test } from "node:test";
import { paceOf } from "../../src/sink/delivery-options.ts";

const batch = { max: 100, bytes: 4_096, wait: 1_000 };
const bounds = { events: 100, bytes: 4_096, waitMs: 1_000 };
const never = (): boolean => false;

test("paceOf() reads rate, hours and interfaces; what is left out is not there", () => {
  const schedule = { hours: undefined, interfaces: undefined };
  const plain = { batch, rateLimit: undefined, schedule };
  assert.deepEqual(paceOf(plain, never), { bounds });
  assert.deepEqual(paceOf({ ...plain, order: "strict", backfillShare: 0.5 }, never), { bounds });
  const asked: (readonly string[])[] = [];
  const pace = paceOf(
    {
      batch,
      rateLimit: "1.5 MiB/s",
      schedule: { hours: "22:00-06:30", interfaces: ["wifi"] },
      order: "live-first",
      backfillShare: 0.3,
    },
    (names) => asked.push(names) > 0,
  );
  assert.equal(pace.bytesPerSecond, 1_572_864);
  assert.equal(pace.backlogShare, 0.3);
  assert.deepEqual(pace.schedule?.hours, { from: 1_320, to: 390 });
  assert.equal(pace.schedule?.isLinkUp?.(), true);
  assert.deepEqual(asked, [["wifi"]]);
  assert.equal(paceOf({ ...plain, rateLimit: "200KiB/s" }, never).bytesPerSecond, 204_800);
});

/** Rate, lanes and hours, whatever comes in whatever order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LaneShare, type Lane } from "../../src/flow/lane-share.ts";
import { isWithin } from "../../src/flow/schedule.ts";
import { TokenBucket } from "../../src/flow/token-bucket.ts";

test("a token bucket lets through its rate, one second's worth and one batch at the most, and wastes nothing", () => {
  const sends = fc.array(fc.tuple(fc.nat(3_000), fc.integer({ min: 1, max: 2_000 })), {
    minLength: 1,
    maxLength: 200,
  });
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 5_000 }), sends, (rate, batches) => {
      const bucket = new TokenBucket(rate, 0);
      let [now, sent, largest] = [0, 0, 0];
      for (const [pause, bytes] of batches) {
        now += pause;
        const waitMs = bucket.waitMs(now);
        now += waitMs;
        assert.equal(bucket.waitMs(now), 0, "it waits once");
        if (waitMs > 0)
          assert.ok(waitMs <= (largest / rate) * 1000 + 2, "no longer than a batch costs");
        bucket.spend(bytes, now);
        sent += bytes;
        largest = Math.max(largest, bytes);
        assert.ok(sent <= rate * (now / 1000) + rate + largest + 1);
      }
    }),
  );
});

test("two lanes that always have something get their shares, to within one batch of each", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 1_000 }), { minLength: 50, maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 10, max: 90 }), sizes, (percent, batches) => {
      const share = percent / 100;
      const lanes = new LaneShare(share);
      const sent: Record<Lane, number> = { live: 0, backlog: 0 };
      for (const bytes of batches) {
        const lane = lanes.choose({ live: true, backlog: true });
        assert.ok(lane !== null);
        lanes.sent(lane, bytes);
        sent[lane] += bytes;
        const apart = sent.backlog / share - sent.live / (1 - share);
        assert.ok(Math.abs(apart) <= 1_000 / Math.min(share, 1 - share));
      }
    }),
  );
});

test("a lane that had nothing goes first when it has something, and saves nothing up", () => {
  const lanes = new LaneShare(0.5);
  for (let turn = 0; turn < 100; turn++) {
    assert.equal(lanes.choose({ live: false, backlog: true }), "backlog");
    lanes.sent("backlog", 1_000);
  }
  assert.equal(lanes.choose({ live: true, backlog: true }), "live");
  lanes.sent("live", 10);
  // It has had its turn, and its share so far is 10 bytes: the other one follows.
  assert.equal(lanes.choose({ live: true, backlog: true }), "backlog");
  lanes.sent("backlog", 1_000);
  assert.equal(lanes.choose({ live: true, backlog: true }), "live");
  assert.equal(lanes.choose({ live: false, backlog: false }), null);
});

test("hours go over midnight; the same twice are the whole day", () => {
  const minute = fc.integer({ min: 0, max: 1_439 });
  fc.assert(
    fc.property(minute, minute, minute, (at, from, to) => {
      const dayFrom = (at - from + 1_440) % 1_440;
      const length = (to - from + 1_440) % 1_440 || 1_440;
      assert.equal(isWithin(at, from, to), dayFrom < length);
    }),
  );
});

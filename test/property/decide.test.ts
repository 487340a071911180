import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/core/errors.ts";
import { decide } from "../../src/flow/decide.ts";

const kinds = fc.constantFrom("transient", "refused", "fatal", "config");
const policies = fc
  .record({
    attempts: fc.integer({ min: 1, max: 1000 }),
    baseMs: fc.integer({ min: 1, max: 60_000 }),
    grow: fc.integer({ min: 0, max: 86_400_000 }),
    onFailure: fc.constantFrom("dead-letter" as const, "block" as const, "drop" as const),
  })
  .map(({ grow, ...policy }) => ({ ...policy, maxMs: policy.baseMs + grow }));
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test("decide() never waits longer than the ceiling, never gives up early, never for what is transient", () => {
  fc.assert(
    fc.property(
      kinds,
      fc.integer({ min: 1, max: 1_000_000 }),
      policies,
      random,
      (kind, attempt, policy, drawn) => {
        const error = new HoldfastError("HANDLER_FAILED", "No", { kind });
        const decision = decide(error, attempt, policy, drawn);
        if (decision.act === "retry") {
          assert.ok(decision.delayMs > 0 && decision.delayMs <= policy.maxMs);
        }
        const isStop = kind === "fatal" || kind === "config";
        assert.equal(decision.act === "stop", isStop);
        const mayEnd = kind === "refused" && attempt >= policy.attempts;
        const ends = decision.act === "dead-letter" || decision.act === "drop";
        assert.equal(ends, mayEnd && policy.onFailure !== "block");
        if (ends) assert.equal(decision.act, policy.onFailure);
        assert.deepEqual(decide(error, attempt, policy, drawn), decision);
      },
    ),
  );
});

/**
 * A processor against what it promises: whatever fails and whenever the process dies, each event has had its
 * effects exactly once, and events of one key in their order (invariants 4 and 10).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/core/errors.ts";
import type { Handler } from "../../src/processor/processor.ts";
import { ProcessingLine } from "../support/processing-line.ts";

const keys = ["a", "b", "c"] as const;

/** What an event does when it is handled: how often it fails before it succeeds; `never`: it does not. */
interface Plan {
  readonly key: (typeof keys)[number] | null;
  readonly failures: number;
  readonly never: boolean;
  readonly transient: boolean;
  readonly slow: boolean;
}

/** What happens to the world between two steps of the loop. */
type Blow = "kill" | "kill-applied" | "refuse-commit" | "refuse-read" | "trim-plane" | "nothing";

const plan: fc.Arbitrary<Plan> = fc.record({
  key: fc.constantFrom(...keys, null),
  failures: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 4 })),
  never: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
  transient: fc.boolean(),
  slow: fc.boolean(),
});
const blows = fc.array(
  fc.record({
    after: fc.integer({ min: 0, max: 30 }),
    blow: fc.constantFrom<Blow>(
      "kill",
      "kill-applied",
      "refuse-commit",
      "refuse-read",
      "trim-plane",
      "nothing",
    ),
  }),
  { maxLength: 12 },
);

/** Counts each key's events in state, and emits what it counted: a lost or repeated effect shows in both. */
function handlerOf(plans: readonly Plan[]): Handler {
  return async (event, context) => {
    const { n, k } = event.payload as { n: number; k?: string };
    const mine = plans[n - 1];
    assert.ok(mine !== undefined);
    const count = ((await context.state.get(k ?? "none")) as number | undefined) ?? 0;
    context.state.put(k ?? "none", count + 1);
    context.emit("side", { n });
    if (mine.slow) await context.state.get("elsewhere");
    if (mine.never) throw new Error(`Never ${n}`);
    if (context.attempt <= mine.failures) {
      if (mine.transient) throw new HoldfastError("SINK_UNREACHABLE", "Not now");
      throw new Error("Not yet");
    }
    return { n, k, count: count + 1 };
  };
}

async function strike(line: ProcessingLine, blow: Blow): Promise<void> {
  const refusal = new HoldfastError("JOURNAL_DISK", "Cannot write");
  if (blow === "kill" || blow === "kill-applied") line.restart(blow === "kill-applied");
  else if (blow === "refuse-commit") line.journal.failures.push(refusal);
  else if (blow === "refuse-read") line.journal.readFailures.push(refusal);
  else if (blow === "trim-plane") await line.plane.close();
}

test("createProcessing() has each event's effects exactly once, and each key's in order, whatever fails", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(plan, { minLength: 1, maxLength: 60 }),
      blows,
      fc.integer({ min: 1, max: 20 }),
      fc.constantFrom("key" as const, "none" as const),
      async (plans, blows, max, order) => {
        const line = new ProcessingLine({
          handler: handlerOf(plans),
          order,
          batch: { max, waitMs: 100 },
          policy: { attempts: 6, baseMs: 50, maxMs: 1000, onFailure: "dead-letter" },
        });
        plans.forEach(({ key }, index) =>
          line.put(key === null ? { n: index + 1 } : { n: index + 1, k: key }),
        );
        await line.until("the events", () => line.disk.head("in") === plans.length);
        line.start();
        for (const { after, blow } of blows) {
          let turns = 0;
          await line.until("the next blow", () => turns++ >= after);
          await strike(line, blow);
        }
        await line.drained();
        await line.stop();
        judge(line, plans, order);
      },
    ),
    { numRuns: 150 },
  );
});

function judge(line: ProcessingLine, plans: readonly Plan[], order: "key" | "none"): void {
  const good = plans.flatMap(({ never }, index) => (never ? [] : [index + 1]));
  const bad = plans.flatMap(({ never }, index) => (never ? [index + 1] : []));
  const byNumber = (a: number, b: number): number => a - b;
  const out = line.values("out") as { n: number; k?: string; count: number }[];
  const side = line.values("side") as { n: number }[];
  assert.deepEqual(out.map(({ n }) => n).toSorted(byNumber), good);
  assert.deepEqual(
    side.map(({ n }) => n),
    out.map(({ n }) => n),
  );
  assert.deepEqual(line.disk.letters.map(({ seq }) => seq ?? 0).toSorted(byNumber), bad);
  for (const { attempts } of line.disk.letters) assert.equal(attempts, 6);
  for (const key of [...keys, undefined]) {
    const mine = out.filter(({ k }) => k === key);
    assert.deepEqual(
      mine.map(({ count }) => count),
      mine.map((_, index) => index + 1),
    );
    const kept = line.disk.state.get(`proc\0${key ?? "none"}`);
    assert.equal(kept === undefined ? 0 : Number(Buffer.from(kept).toString()), mine.length);
    if (order === "none" || key === undefined) continue;
    const seqs = mine.map(({ n }) => n);
    assert.deepEqual(seqs, seqs.toSorted(byNumber));
  }
}

/**
 * Steps that remember, in a process that dies again and again: what they give is what one that never died gives, once
 * each (invariant 4). The windows are held against a plain computation.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HoldfastError } from "../../src/core/errors.ts";
import { settingsOf } from "../support/chain-run.ts";
import { ProcessingLine } from "../support/processing-line.ts";

const start = Date.UTC(2026, 0, 1);

const steps = settingsOf([
  { dedupe: { by: "id", within: "1d" } },
  { window: { tumbling: "10s", lateness: "1s", aggregate: { sum: "sum(v)", list: "last(id)" } } },
]);
const alarms = settingsOf([
  { dedupe: { by: "id", within: "1d" } },
  { alert: { field: "v", above: 7, clear: 3 } },
]);

interface Reading {
  readonly k: "a" | "b";
  readonly v: number;
  /** How often it is sent. */
  readonly copies: number;
}

const readings: fc.Arbitrary<Reading[]> = fc.array(
  fc.record({
    k: fc.constantFrom("a" as const, "b" as const),
    v: fc.integer({ min: 0, max: 10 }),
    copies: fc.integer({ min: 1, max: 2 }),
  }),
  { minLength: 1, maxLength: 80, size: "max" },
);
const blows = fc.array(
  fc.record({
    after: fc.integer({ min: 0, max: 20 }),
    blow: fc.constantFrom("kill", "kill-applied", "refuse-commit", "nothing"),
  }),
  { maxLength: 12, size: "max" },
);

async function suffer(
  line: ProcessingLine,
  list: readonly Reading[],
  hits: readonly { readonly after: number; readonly blow: string }[],
): Promise<void> {
  let sent = 0;
  list.forEach(({ k, v, copies }, index) => {
    for (let copy = 0; copy < copies; copy++) {
      line.put({ k, v, id: index }, "in", { time: start + index * 1000 });
      sent += 1;
    }
  });
  await line.until("the events", () => line.disk.head("in") === sent);
  line.start();
  for (const { after, blow } of hits) {
    let turns = 0;
    await line.until("the next blow", () => turns++ >= after);
    if (blow === "refuse-commit") {
      line.journal.failures.push(new HoldfastError("JOURNAL_DISK", "The disk does not want to"));
    } else if (blow !== "nothing") line.restart(blow === "kill-applied");
  }
  await line.drained();
  const until = line.clock.monotonicMs() + 60_000;
  await line.until("silence", () => line.clock.monotonicMs() >= until, 500);
  await line.stop();
}

test("windows behind dedupe are those of all events, once each, whenever the process dies", async () => {
  await fc.assert(
    fc.asyncProperty(readings, blows, fc.integer({ min: 1, max: 30 }), async (list, hits, max) => {
      const line = new ProcessingLine({ steps, batch: { max, waitMs: 100 } });
      await suffer(line, list, hits);
      const expected = new Map<string, { count: number; sum: number; list: number }>();
      list.forEach(({ k, v }, index) => {
        const name = `${k} ${start + Math.floor(index / 10) * 10_000}`;
        const { count = 0, sum = 0 } = expected.get(name) ?? {};
        expected.set(name, { count: count + 1, sum: sum + v, list: index });
      });
      const found = line
        .values()
        .map(({ key, start: from, count, sum, list: last }) => [
          `${String(key)} ${String(from)}`,
          { count, sum, list: last },
        ]);
      assert.equal(found.length, expected.size);
      assert.deepEqual(new Map(found as never), expected);
      assert.equal(line.disk.head("in-late"), 0);
    }),
    { numRuns: 120 },
  );
});

test("an alert fires once and clears once, whenever the process dies", async () => {
  await fc.assert(
    fc.asyncProperty(readings, blows, async (list, hits) => {
      const line = new ProcessingLine({ steps: alarms, batch: { max: 5, waitMs: 100 } });
      await suffer(line, list, hits);
      const firing = new Map<string, boolean>();
      const expected = list.flatMap(({ k, v }) => {
        const isFiring = firing.get(k) ?? false;
        if (isFiring ? v > 3 : v <= 7) return [];
        firing.set(k, !isFiring);
        return [{ k, state: isFiring ? "cleared" : "firing", v }];
      });
      const found = line.values().map(({ key, state, value }) => ({ k: key, state, v: value }));
      assert.deepEqual(found, expected);
    }),
    { numRuns: 80 },
  );
});

/** Steps that remember, in the loop: what they know becomes durable with the cursor, and silence closes windows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { settingsOf, type Written } from "../support/chain-run.ts";
import { ProcessingLine, type LineOptions } from "../support/processing-line.ts";

const start = Date.UTC(2026, 0, 1);

function lineOf(steps: readonly Written[], options: LineOptions = {}): ProcessingLine {
  return new ProcessingLine({ steps: settingsOf(steps), ...options });
}

/** Events of one second each, at that time by their sender's clock. */
function put(line: ProcessingLine, ...seconds: readonly number[]): void {
  for (const at of seconds) line.put({ k: "a", n: at }, "in", { time: start + at * 1000 });
}

/** Lets so much time go by. */
async function passed(line: ProcessingLine, ms: number): Promise<void> {
  const until = line.clock.monotonicMs() + ms;
  await line.until("time to go by", () => line.clock.monotonicMs() >= until, 500);
}

const minute: Written = { window: { tumbling: "60s", lateness: "5s" } };

test("a window closes in the silence of its stream, and not before window and lateness have passed", async () => {
  const line = lineOf([minute]).start();
  put(line, 0, 10);
  await line.drained();
  const heard = line.clock.monotonicMs();
  await line.until("the window to close", () => line.values().length > 0, 1000);
  assert.ok(line.clock.monotonicMs() - heard >= 63_000);
  assert.deepEqual(line.values(), [{ start, end: start + 60_000, key: "a", count: 2 }]);
  // What comes for it now is late, also in another process.
  line.restart(false);
  put(line, 20);
  await line.until("the late event", () => line.values("in-late").length > 0);
  assert.deepEqual(line.values("in-late"), [{ k: "a", n: 20 }]);
  assert.deepEqual(line.disk.events("in-late")[0]?.headers["lateMs"], "40000");
  assert.equal(line.values().length, 1);
  await line.stop();
});

test("no wall clock closes a window: neither a step of it nor its standing still", async () => {
  const line = lineOf([minute]).start();
  put(line, 0);
  await line.drained();
  line.clock.wall += 30 * 86_400_000;
  put(line, 1);
  await line.drained();
  await passed(line, 2_000);
  assert.deepEqual(line.values(), []);
  await line.stop();
});

test("a window stays open while an event of its stream waits for another attempt", async () => {
  const line = lineOf([{ filter: "payload.n < 100 || payload.isGood" }, minute], {
    policy: { attempts: 3, baseMs: 1000, maxMs: 1000, onFailure: "block" },
  }).start();
  put(line, 0, 100);
  await line.until("the failure", () => line.disk.retries.size === 1);
  await passed(line, 300_000);
  assert.deepEqual(line.values(), []);
  await line.stop();
});

test("what is due in the silence is tried again while the far side of a handler is away", async () => {
  let isAway = true;
  const line = lineOf([minute], {
    handler: (event) => {
      if (isAway) throw new HoldfastError("SINK_UNREACHABLE", "Not now");
      return event.payload;
    },
  }).start();
  put(line, 0);
  await line.drained();
  await passed(line, 100_000);
  assert.deepEqual([line.values(), line.disk.letters], [[], []]);
  isAway = false;
  await line.until("the window to close", () => line.values().length > 0, 1000);
  await passed(line, 100_000);
  assert.equal(line.values().length, 1);
  await line.stop();
});

test("a window that a handler refuses costs itself alone, and the event that closed it is in the next", async () => {
  const line = lineOf([minute], {
    handler: (event) => {
      if ((event.payload as { count: number }).count === 2) throw new Error("No pairs");
      return event.payload;
    },
  }).start();
  put(line, 0, 1, 66, 130);
  await line.drained();
  assert.equal(line.disk.retries.size, 0);
  const [letter, ...others] = line.disk.letters;
  assert.deepEqual(others, []);
  assert.deepEqual(JSON.parse(Buffer.from(letter?.payload ?? []).toString()), {
    start,
    end: start + 60_000,
    key: "a",
    count: 2,
  });
  assert.deepEqual([letter?.stream, letter?.seq, letter?.code], ["out", null, "HANDLER_FAILED"]);
  await line.until("the next window", () => line.values().length === 1);
  assert.equal(line.values()[0]?.["start"], start + 60_000);
  await line.stop();
});

test("steps that need the time wait until the clock is set; others do not", async () => {
  for (const [steps, waits] of [
    [[minute], true],
    [[{ filter: "true" }], false],
  ] as const) {
    const line = lineOf(steps);
    line.clock.clockQuality = "unsynced";
    line.start();
    put(line, 0, 66);
    await passed(line, 30_000);
    assert.equal(line.cursor(), waits ? 0 : 2);
    assert.equal(line.context.now().status, waits ? "degraded" : "ok");
    line.clock.clockQuality = "synced";
    await line.drained();
    assert.equal(line.context.now().status, "ok");
    await line.stop();
  }
});

test("exclusively() runs between two units, and the loop goes on where the cursor is then", async () => {
  const line = lineOf([{ sample: { oneOf: 2 } }]).start();
  put(line, 1, 2, 3);
  await line.drained();
  const seen = await line.exclusively(async () => {
    const cursor = line.cursor();
    const unit = {
      group: "proc",
      cursors: [{ stream: "in", from: cursor, to: 0 }],
      state: [{ space: "proc/sample", key: "=a", value: null }],
    };
    return [cursor, await line.journal.commit(unit, "soon")];
  });
  assert.deepEqual(seen, [3, "committed"]);
  await line.drained();
  assert.deepEqual(
    line.values().map(({ n }) => n),
    [1, 3, 1, 3],
  );
  await line.stop();
  await assert.rejects(
    line.exclusively(async () => 1),
    { code: "PROCESSOR_STOPPED" },
  );
});

/** A handler for whole batches: what it is given, and how the event that it fails on is found. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { BatchHandler, Event } from "../../src/processor/processor.ts";
import { ProcessingLine, type LineOptions } from "../support/processing-line.ts";
import { settingsOf } from "../support/chain-run.ts";

const numberOf = (event: Event): number => (event.payload as { n: number }).n;
const policy = { attempts: 1, baseMs: 100, maxMs: 100, onFailure: "dead-letter" } as const;

function lineOf(batch: BatchHandler["batch"], options: LineOptions = {}): ProcessingLine {
  const batches = { max: 1000, waitMs: 100 };
  return new ProcessingLine({ handler: { batch }, policy, batch: batches, ...options });
}

async function fed(line: ProcessingLine, count: number): Promise<void> {
  for (let n = 1; n <= count; n++) line.put({ n, k: `k${n % 7}` });
  await line.until("the events", () => line.disk.head("in") === count);
  line.start();
  await line.drained();
}

test("one poison event in 1,000 costs one dead letter, no neighbour, and some twenty calls", async () => {
  let calls = 0;
  const line = lineOf((events) => {
    calls += 1;
    if (events.some((event) => numberOf(event) === 613)) throw new Error("Poison");
    return events.map((event) => ({ n: numberOf(event) }));
  });
  await fed(line, 1000);
  assert.deepEqual(
    line.disk.letters.map(({ seq, attempts }) => [seq, attempts]),
    [[613, 1]],
  );
  assert.deepEqual(
    line.values().map(({ n }) => n),
    Array.from({ length: 1000 }, (_, index) => index + 1).filter((n) => n !== 613),
  );
  assert.ok(calls <= 2 * Math.ceil(Math.log2(1000)) + 1, `${calls} calls`);
  await line.stop();
});

test("a batch that fails leaves nothing: neither state, nor what it emitted, nor what steps remember", async () => {
  const line = lineOf(
    async (events, context) => {
      const seen = ((await context.state.get("seen")) as number[] | undefined) ?? [];
      context.state.put("seen", [...seen, ...events.map(numberOf)]);
      for (const event of events) context.emit("side", { n: numberOf(event) });
      if (events.some((event) => numberOf(event) % 10 === 3)) throw new Error("Poison");
    },
    { steps: settingsOf([{ dedupe: { by: "n" } }]) },
  );
  await fed(line, 60);
  const good = Array.from({ length: 60 }, (_, index) => index + 1).filter((n) => n % 10 !== 3);
  assert.deepEqual(
    line.values("side").map(({ n }) => n),
    good,
  );
  assert.deepEqual(
    JSON.parse(Buffer.from(line.disk.state.get("proc\0seen") ?? []).toString()),
    good,
  );
  const remembered = [...line.disk.state.keys()].filter((name) => name.startsWith("proc/dedupe"));
  assert.equal(remembered.length, good.length);
  assert.equal(line.disk.letters.length, 6);
  await line.stop();
});

test("later events of a key wait behind one that fails, also within its batch", async () => {
  const handled: number[] = [];
  let isBroken = true;
  const line = lineOf(
    (events) => {
      if (isBroken && events.some((event) => numberOf(event) === 5)) throw new Error("Not yet");
      handled.push(...events.map(numberOf));
    },
    { policy: { ...policy, attempts: 100, onFailure: "block" } },
  );
  for (let n = 1; n <= 30; n++) line.put({ n, k: `k${n % 7}` });
  await line.until("the events", () => line.disk.head("in") === 30);
  line.start();
  await line.until("the others", () => line.cursor() === 30);
  assert.deepEqual(
    handled.filter((n) => n % 7 === 5),
    [],
  );
  isBroken = false;
  await line.drained();
  assert.deepEqual(
    handled.filter((n) => n % 7 === 5),
    [5, 12, 19, 26],
  );
  assert.equal(new Set(handled).size, 30);
  assert.equal(handled.length, 30);
  await line.stop();
});

test("a far side that is away is no event's fault: the batch is tried again and not cut in halves", async () => {
  let calls = 0;
  const line = lineOf((events) => {
    calls += 1;
    if (calls <= 2) throw new HoldfastError("SINK_UNREACHABLE", "Not now");
    return events.map((event) => ({ n: numberOf(event) }));
  });
  await fed(line, 50);
  assert.equal(line.values().length, 50);
  assert.ok(calls <= 12, `${calls} calls`);
  await line.stop();
});

test("a batch that needs too long is tried with half as many events, and an event alone fails", async () => {
  const sizes: number[] = [];
  const line = lineOf(
    (events) => {
      sizes.push(events.length);
      if (events.length > 10) return new Promise(() => undefined);
      return events.map((event) => ({ n: numberOf(event) }));
    },
    { timeoutMs: 1000 },
  );
  await fed(line, 100);
  assert.deepEqual(
    line.values().map(({ n }) => n),
    Array.from({ length: 100 }, (_, index) => index + 1),
  );
  assert.deepEqual(sizes.slice(0, 5), [100, 50, 25, 13, 7]);
  await line.stop();
});

test("a handler's error names the line that threw it", async () => {
  const line = lineOf(() => {
    throw new Error("Poison");
  });
  await fed(line, 1);
  assert.match(
    line.disk.letters[0]?.reason ?? "",
    /^Poison \(at batch-handler\.test\.ts:\d+:\d+\)$/,
  );
  await line.stop();
});

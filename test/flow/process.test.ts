import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StreamRules } from "../../src/flow/admit.ts";
import type { Event, Handler } from "../../src/processor/processor.ts";
import { openRules, ProcessingLine } from "../support/processing-line.ts";

const numbers = (line: ProcessingLine, stream = "out"): unknown[] =>
  line.values(stream).map(({ n }) => n);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
const numberOf = (event: Event): number => (event.payload as { n: number }).n;
const sum = (line: ProcessingLine, status: string, stream = "in"): number =>
  line.context.sums.get(
    `stream_messages_processed_total{stream="${stream}",group="proc",status="${status}"}`,
  ) ?? 0;

/** Fails on what `fails` says, passes on the rest. */
function picky(fails: (n: number, attempt: number) => boolean): Handler {
  return (event, context) => {
    const n = numberOf(event);
    if (fails(n, context.attempt)) throw new Error(`No ${n}`);
    return event.payload;
  };
}

test("createProcessing() takes events from plane to journal, in order and once each", async () => {
  const line = new ProcessingLine({ steps: [{ filter: "payload.n % 3 != 0" }] }).start();
  for (let n = 1; n <= 300; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(
    numbers(line),
    upTo(300).filter((n) => n % 3 !== 0),
  );
  assert.equal(sum(line, "success"), 300);
  assert.equal(line.context.now().status, "ok");
  assert.deepEqual(line.disk.events("out")[0]?.headers, { topic: "t" });
  await line.stop();
  assert.equal(line.clock.waiting, 0);
  assert.equal(line.journal.listeners, 0);
});

test("createProcessing() reads a backlog from the journal, then goes on from the plane", async () => {
  const line = new ProcessingLine();
  for (let n = 1; n <= 500; n++) line.put({ n });
  await line.until("the backlog", () => line.disk.head("in") === 500);
  line.start();
  await line.drained();
  const reads = line.journal.reads;
  for (let n = 501; n <= 540; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(numbers(line), upTo(540));
  // One read for the projection's page; the processor itself had no need of any.
  assert.equal(line.journal.reads, reads + 1);
  assert.ok(line.journal.largestRead <= 1024);
  await line.stop();
});

test("createProcessing() loses nothing to a plane that evicts faster than it reads", async () => {
  const line = new ProcessingLine({ eventsMax: 20 }).start();
  for (let n = 1; n <= 2000; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(numbers(line), upTo(2000));
  await line.stop();
});

test("createProcessing() writes cursor, emits and state as one unit, and state sees the batch's own writes", async () => {
  const line = new ProcessingLine({
    handler: async (event, context) => {
      const before = ((await context.state.get("count")) as number | undefined) ?? 0;
      context.state.put("count", before + 1);
      if (numberOf(event) % 2 === 0)
        context.emit("even", { n: numberOf(event), count: before + 1 });
    },
  }).start();
  for (let n = 1; n <= 120; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(
    line.values("even").map(({ count }) => count),
    upTo(60).map((n) => n * 2),
  );
  assert.equal(Buffer.from(line.disk.state.get("proc\0count") ?? []).toString(), "120");
  await line.stop();
});

test("createProcessing() takes 1,000 events with one poison event: one dead letter and no neighbour", async () => {
  const line = new ProcessingLine({ handler: picky((n) => n === 500), order: "none" }).start();
  for (let n = 1; n <= 1000; n++) line.put({ n, k: "one" });
  await line.drained();
  assert.deepEqual(
    numbers(line),
    upTo(1000).filter((n) => n !== 500),
  );
  const [letter, ...others] = line.disk.letters;
  assert.equal(others.length, 0);
  assert.equal(letter?.seq, 500);
  assert.equal(letter.origin, "processor");
  assert.equal(letter.originName, "proc");
  assert.equal(letter.code, "HANDLER_FAILED");
  assert.match(letter.reason ?? "", /^No 500 \(at process\.test\.ts/);
  assert.equal(letter.attempts, 3);
  assert.ok(letter.lastFailedAt - letter.firstFailedAt >= 1500);
  assert.equal(Buffer.from(letter.payload).toString(), '{"n":500,"k":"one"}');
  assert.equal(sum(line, "success"), 999);
  assert.equal(sum(line, "error"), 2);
  assert.equal(sum(line, "dead_letter"), 1);
  await line.stop();
});

test("createProcessing() holds later events of a failing event's key, and no others", async () => {
  const line = new ProcessingLine({
    handler: picky((n, attempt) => n === 2 && attempt < 3),
  }).start();
  for (let n = 1; n <= 10; n++) line.put({ n, k: n % 2 === 0 ? "even" : "odd" });
  await line.until("the odd ones", () => line.cursor() === 10);
  assert.deepEqual(numbers(line), [1, 3, 5, 7, 9]);
  const rows = [...line.disk.retries.values()];
  assert.deepEqual(
    rows.map(({ event, attempts }) => [event.seq, attempts]),
    [
      [2, 1],
      [4, 0],
      [6, 0],
      [8, 0],
      [10, 0],
    ],
  );
  assert.match(rows[0]?.error ?? "", /^HANDLER_FAILED: No 2 \(at /);
  for (let n = 11; n <= 12; n++) line.put({ n, k: n % 2 === 0 ? "even" : "odd" });
  await line.drained();
  assert.deepEqual(numbers(line), [1, 3, 5, 7, 9, 11, 2, 4, 6, 8, 10, 12]);
  assert.deepEqual(line.disk.letters, []);
  await line.stop();
});

test("createProcessing() with order none lets later events of the key pass", async () => {
  const line = new ProcessingLine({
    order: "none",
    handler: picky((n, attempt) => n === 1 && attempt < 2),
  }).start();
  for (let n = 1; n <= 4; n++) line.put({ n, k: "same" });
  await line.drained();
  assert.deepEqual(numbers(line), [2, 3, 4, 1]);
  await line.stop();
});

test("createProcessing() with onFailure block tries for ever, holds the key, and says so", async () => {
  let isMended = false;
  const line = new ProcessingLine({
    policy: { attempts: 2, baseMs: 1000, maxMs: 5000, onFailure: "block" },
    handler: picky((n) => n === 1 && !isMended),
  }).start();
  for (let n = 1; n <= 4; n++) line.put({ n, k: n < 4 ? "held" : "free" });
  await line.until("many attempts", () => sum(line, "error") >= 6);
  assert.deepEqual(numbers(line), [4]);
  assert.match(line.context.now().detail ?? "", /onFailure: block/);
  isMended = true;
  await line.drained();
  assert.deepEqual(numbers(line), [4, 1, 2, 3]);
  assert.doesNotMatch(line.context.now().detail ?? "", /block/);
  for (let n = 5; n <= 300; n++) line.put({ n });
  await line.drained();
  assert.equal(line.context.now().status, "ok");
  assert.deepEqual(line.disk.letters, []);
  await line.stop();
});

test("createProcessing() with onFailure drop counts what it drops, and lets its key go on", async () => {
  const line = new ProcessingLine({
    policy: { attempts: 2, baseMs: 1000, maxMs: 5000, onFailure: "drop" },
    handler: picky((n) => n === 1),
  }).start();
  for (let n = 1; n <= 3; n++) line.put({ n, k: "same" });
  await line.drained();
  assert.deepEqual(numbers(line), [2, 3]);
  assert.equal(sum(line, "dropped"), 1);
  assert.equal(line.context.readFigures()["dropped"], 1);
  assert.deepEqual(line.disk.letters, []);
  await line.stop();
});

test("createProcessing() retries what is transient past every number of attempts", async () => {
  let failures = 0;
  const line = new ProcessingLine({
    policy: { attempts: 1, baseMs: 100, maxMs: 1000, onFailure: "dead-letter" },
    handler: (event) => {
      if (failures++ < 12) throw new HoldfastError("SINK_UNREACHABLE", "Cannot reach the API");
      return event.payload;
    },
  }).start();
  line.put({ n: 1 });
  await line.drained();
  assert.deepEqual(numbers(line), [1]);
  assert.equal(sum(line, "error"), 12);
  await line.stop();
});

test("createProcessing() stands still when the retry rows are at their bound, until some resolve", async () => {
  let isMended = false;
  const line = new ProcessingLine({
    order: "none",
    // 1,000 is no multiple of it: the bound falls within a batch.
    batch: { max: 30, waitMs: 100 },
    policy: { attempts: 1, baseMs: 1000, maxMs: 5000, onFailure: "block" },
    handler: picky(() => !isMended),
  }).start();
  for (let n = 1; n <= 1300; n++) line.put({ n });
  await line.until("the bound", () => line.disk.retries.size === 1000);
  await line.until("some retries", () => sum(line, "error") > 3000);
  assert.equal(line.disk.retries.size, 1000);
  assert.equal(line.cursor(), 1000);
  assert.match(line.context.now().detail ?? "", /stands still/);
  isMended = true;
  await line.drained();
  assert.deepEqual(
    numbers(line).toSorted((a, b) => Number(a) - Number(b)),
    upTo(1300),
  );
  await line.stop();
});

test("createProcessing() makes a payload that is not of its format a dead letter at once", async () => {
  const line = new ProcessingLine().start();
  line.put({ n: 1 });
  const malformed = Buffer.from("{nonsense");
  const time = Date.UTC(2026, 0, 1);
  line.journal.append(
    "in",
    { key: null, time, receivedAt: time, headers: {}, payload: malformed },
    () => undefined,
  );
  line.put({ n: 3 });
  await line.drained();
  assert.deepEqual(numbers(line), [1, 3]);
  assert.equal(line.disk.letters[0]?.code, "EVENT_MALFORMED");
  assert.equal(line.disk.letters[0]?.attempts, 1);
  await line.stop();
});

test("createProcessing() fails the event whose output does not fit its target's schema", async () => {
  const strict: StreamRules = {
    ...openRules(),
    validate: (value) => ((value as { n: number }).n === 2 ? "n: expected not 2" : null),
  };
  const line = new ProcessingLine({
    rulesOf: (stream) => (stream === "out" ? strict : openRules()),
  }).start();
  for (let n = 1; n <= 3; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(numbers(line), [1, 3]);
  assert.equal(line.disk.letters[0]?.code, "EVENT_INVALID");
  assert.match(line.disk.letters[0]?.reason ?? "", /^Cannot emit into out: .*expected not 2/);
  await line.stop();
});

test("createProcessing() attaches anew when its cursor was moved, and keeps no effects of the refused unit", async () => {
  const line = new ProcessingLine().start();
  for (let n = 1; n <= 10; n++) line.put({ n });
  await line.drained();
  // A replay: somebody sets the cursor back to 4.
  line.disk.cursors.set("proc\0in", { seq: 4, mark: null });
  for (let n = 11; n <= 12; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(numbers(line), [...upTo(10), 5, 6, 7, 8, 9, 10, 11, 12]);
  await line.stop();
});

test("createProcessing() goes on behind what was trimmed before it was read", async () => {
  const line = new ProcessingLine();
  for (let n = 1; n <= 100; n++) line.put({ n });
  await line.until("the events", () => line.disk.head("in") === 100);
  line.disk.trim("in", 100);
  line.start();
  await line.drained();
  line.put({ n: 101 });
  await line.drained();
  assert.deepEqual(numbers(line), [101]);
  assert.match(line.context.lines[0]?.message ?? "", /trimmed/);
  await line.stop();
});

test("createProcessing() tries a commit again that the disk refused, says so, and heals", async () => {
  const line = new ProcessingLine();
  const refusal = new HoldfastError("JOURNAL_DISK", "Cannot write: I/O error");
  line.journal.failures.push(refusal, refusal, refusal);
  line.journal.readFailures.push(refusal, refusal);
  line.start();
  for (let n = 1; n <= 5; n++) line.put({ n });
  await line.drained();
  assert.deepEqual(numbers(line), upTo(5));
  await line.until("the end of it", () => line.context.now().status === "ok");
  assert.ok(line.context.reports.some(({ detail }) => /takes no results/.test(detail ?? "")));
  await line.stop();
});

test("createProcessing() stops for good when a handler says that it cannot go on, and keeps what came before", async () => {
  const line = new ProcessingLine({
    handler: (event) => {
      if (numberOf(event) === 3) throw new HoldfastError("HANDLER_INVALID", "Table is missing");
      return event.payload;
    },
  }).start();
  for (let n = 1; n <= 5; n++) line.put({ n });
  await line.until("the end", () => line.fatals.length > 0);
  assert.deepEqual(numbers(line), [1, 2]);
  assert.equal(line.cursor(), 2);
  assert.equal(line.context.now().status, "failing");
  await line.stop();
});

test("createProcessing() goes on within a batch that ended early, and fails only the event that hangs", async () => {
  const line = new ProcessingLine({
    timeoutMs: 500,
    policy: { attempts: 1, baseMs: 1000, maxMs: 5000, onFailure: "dead-letter" },
    handler: (event) => (numberOf(event) === 20 ? new Promise(() => undefined) : event.payload),
  });
  for (let n = 1; n <= 40; n++) line.put({ n });
  await line.until("the events", () => line.disk.head("in") === 40);
  line.start();
  await line.drained();
  assert.deepEqual(
    numbers(line),
    upTo(40).filter((n) => n !== 20),
  );
  assert.deepEqual(
    line.disk.letters.map(({ seq, code }) => [seq, code]),
    [[20, "HANDLER_TIMEOUT"]],
  );
  assert.ok(!line.context.lines.some(({ message }) => message.startsWith("Cursors have moved")));
  assert.equal(line.disk.units.length, 3);
  await line.stop();
});

test("stop() lets the batch that runs end, and commits it", async () => {
  let release: (() => void) | undefined;
  const line = new ProcessingLine({
    handler: (event) =>
      new Promise((resolve) => {
        release = () => resolve(event.payload);
      }),
  }).start();
  line.put({ n: 1 });
  await line.until("the handler", () => release !== undefined);
  const stopping = line.stop(5000);
  release?.();
  await stopping;
  assert.deepEqual(numbers(line), [1]);
  assert.equal(line.cursor(), 1);
});

test("stop() leaves a handler that does not end to the cursor, within its grace", async () => {
  let hasStarted = false;
  const line = new ProcessingLine({
    handler: () => {
      hasStarted = true;
      return new Promise(() => undefined);
    },
  }).start();
  line.put({ n: 1 });
  await line.until("the handler", () => hasStarted);
  const before = line.clock.monotonicMs();
  await line.stop(1000);
  assert.ok(line.clock.monotonicMs() - before <= 1000);
  assert.equal(line.cursor(), 0);
  assert.equal(line.disk.retries.size, 0);
  await line.stop(1000);
});

test("createProcessing() goes on with its retry rows after a crash, attempts and order kept", async () => {
  const attempts: number[] = [];
  const line = new ProcessingLine({
    handler: (event, context) => {
      if (numberOf(event) !== 1) return event.payload;
      attempts.push(context.attempt);
      throw new Error("Never");
    },
  }).start();
  for (let n = 1; n <= 3; n++) line.put({ n, k: "same" });
  await line.until("the first failure", () => line.disk.retries.size === 3);
  line.restart(false);
  await line.drained();
  assert.deepEqual(attempts, [1, 2, 3]);
  assert.deepEqual(numbers(line), [2, 3]);
  assert.equal(line.disk.letters.length, 1);
  await line.stop();
});

test("createProcessing() reads several streams, and one that fails holds no other up", async () => {
  const line = new ProcessingLine({
    from: ["in", "also"],
    handler: picky((n) => n === 1),
  }).start();
  for (let n = 1; n <= 60; n++) line.put({ n, k: "same" }, n % 2 === 0 ? "also" : "in");
  await line.until("the other stream", () => line.cursor("also") === 30);
  await line.drained();
  assert.equal(numbers(line).length, 59);
  assert.equal(sum(line, "success", "also"), 30);
  await line.stop();
});

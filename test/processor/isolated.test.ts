import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { systemClock } from "../../src/core/clock.ts";
import { isolateHandler } from "../../src/processor/isolated.ts";
import {
  BatchProcessor,
  type BatchOutcome,
  type Gate,
} from "../../src/processor/batch-processor.ts";
import { plainChain } from "../support/plain-chain.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvents } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";

const open: Gate = { admit: () => "run", failed: () => "go-on" };
const never = new AbortController().signal;

/** Runs events 1 to `count` through the module in its thread. */
async function runner(t: TestContext, source: string, timeoutMs = 10_000) {
  const folder = tempDir(t);
  writeFileSync(join(folder, "handler.mjs"), source);
  const isolated = await isolateHandler("./handler.mjs", folder);
  t.after(() => isolated.close());
  const context = recordingContext("proc");
  const processor = new BatchProcessor({
    name: "proc",
    log: context.log,
    clock: systemClock(() => "synced"),
    wallMs: () => 0,
    chain: plainChain(),
    handler: isolated.handler,
    to: "out",
    timeoutMs,
    state: { get: async () => Buffer.from("41"), list: async () => [] },
    formatOf: () => "json",
    derive: (stream, payload) => ({
      key: null,
      time: 0,
      receivedAt: 0,
      headers: {},
      payload: Buffer.from(`${stream}:${JSON.stringify(payload)}`),
    }),
  });
  const run = (count: number, first = 1): Promise<BatchOutcome> => {
    const items = storedEvents(first, count).map((event) => ({ event, attempt: 1 }));
    return processor.run(items, open, never);
  };
  return { run, context };
}

const texts = ({ emits }: BatchOutcome): string[] =>
  emits.map(({ event }) => Buffer.from(event.payload).toString());

test("isolateHandler() runs a handler in a thread: state, emits, log, what it returns", async (t) => {
  const { run, context } = await runner(
    t,
    `import { isMainThread } from "node:worker_threads";
    export default async (event, context) => {
      const before = await context.state.get("a");
      context.state.put("a", before + 1);
      context.emit("side", { n: event.payload.n, own: (await context.state.get("a")) });
      context.log.info("Seen", { n: event.payload.n });
      return { isMainThread, attempt: context.attempt };
    };`,
  );
  const outcome = await run(2);
  assert.deepEqual(texts(outcome), [
    'side:{"n":1,"own":42}',
    'out:{"isMainThread":false,"attempt":1}',
    'side:{"n":2,"own":43}',
    'out:{"isMainThread":false,"attempt":1}',
  ]);
  assert.equal(Buffer.from(outcome.state[0]?.value ?? []).toString(), "43");
  assert.deepEqual(
    context.lines.map(({ message }) => message),
    ["Seen", "Seen"],
  );
});

test("isolateHandler() tells what a handler throws, with its line, and what was refused of what it did", async (t) => {
  const { run } = await runner(
    t,
    `export default (event, context) => {
      if (event.payload.n === 1) throw new Error("No one");
      if (event.payload.n === 2) context.state.put("", 1);
      return { n: event.payload.n };
    };`,
  );
  const outcome = await run(3);
  assert.deepEqual(texts(outcome), ['out:{"n":3}']);
  assert.match(outcome.failures[0]?.error.message ?? "", /^No one \(at handler\.mjs:2:\d+\)$/);
  assert.match(outcome.failures[1]?.error.message ?? "", /A state key must be text/);
});

test("isolateHandler() ends a handler that computes for ever, lets the main thread go on, and starts another", async (t) => {
  const { run } = await runner(
    t,
    `export default (event) => {
      if (event.payload.n === 1) for (;;) {}
      return { n: event.payload.n };
    };`,
    3_000,
  );
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 10);
  const outcome = await run(1);
  clearInterval(timer);
  assert.equal(outcome.failures[0]?.error.code, "HANDLER_TIMEOUT");
  assert.ok(turns > 5, `${turns} turns of the main thread`);
  assert.deepEqual(texts(await run(1, 2)), ['out:{"n":2}']);
});

test("isolateHandler() fails the event whose handler ends its thread, and starts another", async (t) => {
  const { run } = await runner(
    t,
    `export default (event) => {
      if (event.payload.n === 1) process.exit(3);
      return { n: event.payload.n };
    };`,
  );
  const outcome = await run(2);
  assert.match(outcome.failures[0]?.error.message ?? "", /thread has ended: exit code 3/);
  assert.deepEqual(texts(outcome), ['out:{"n":2}']);
});

test("isolateHandler() takes handlers for batches, and refuses what is none", async (t) => {
  const { run } = await runner(
    t,
    "export default { batch: (events) => ({ sum: events.length }) };",
  );
  assert.deepEqual(texts(await run(7)), ['out:{"sum":7}']);
  const folder = tempDir(t);
  writeFileSync(join(folder, "none.mjs"), "export default 7;");
  await assert.rejects(isolateHandler("none.mjs", folder), {
    code: "HANDLER_INVALID",
    message: /its default export is of type number/,
  });
});

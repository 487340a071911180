import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import type { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import type { Event, Handler } from "../../src/processor/processor.ts";
import { stateBytesMax } from "../../src/state/state.ts";
import {
  BatchProcessor,
  type BatchItem,
  type BatchProcessorParts,
  type Gate,
} from "../../src/processor/batch-processor.ts";
import { emitBytesMax, emitsMax } from "../../src/state/effects.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { plainChain } from "../support/plain-chain.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvents } from "../support/stored-event.ts";

const never = new AbortController().signal;
const open: Gate = { admit: () => "run", failed: () => "go-on" };
const itemsOf = (events: readonly StoredEvent[]): BatchItem[] =>
  events.map((event) => ({ event, attempt: 1 }));
const numberOf = (event: Event): number => (event.payload as { n: number }).n;

function processorWith(given: Partial<BatchProcessorParts> = {}) {
  const clock = new FakeClock();
  const context = recordingContext("proc", clock);
  const stored = new Map<string, Uint8Array>();
  const asked: string[] = [];
  const processor = new BatchProcessor({
    name: "proc",
    log: context.log,
    clock,
    chain: plainChain(),
    to: "out",
    timeoutMs: 1000,
    wallMs: () => clock.wallMs(),
    state: {
      list: async () => [],
      get: async (space, key) => {
        asked.push(`${space}/${key}`);
        return stored.get(key) ?? null;
      },
    },
    formatOf: () => "json",
    derive: (stream, payload, base, options, original) => ({
      key: options.key ?? base.key,
      time: options.time ?? base.time,
      receivedAt: 0,
      headers: options.headers ?? base.headers,
      payload: original ?? Buffer.from(`${stream}:${JSON.stringify(payload)}`),
    }),
    ...given,
  });
  return { processor, clock, context, stored, asked };
}

const payloads = (emits: readonly { event: { payload: Uint8Array } }[]): string[] =>
  emits.map(({ event }) => Buffer.from(event.payload).toString());
const handled = (handler: Handler) => processorWith({ handler });

test("run() passes what the steps leave, in the sender's own bytes where nothing changed", async () => {
  const chain = plainChain(
    (event) => (numberOf(event) === 2 ? [] : [event]),
    (event) => (numberOf(event) === 3 ? [event, { ...event, payload: { n: 33 } }] : [event]),
  );
  const { processor } = processorWith({ chain });
  const events = storedEvents(1, 3).map((event) => ({
    ...event,
    payload: Buffer.from(`{ "n" : ${event.seq} }`),
  }));
  const outcome = await processor.run(itemsOf(events), open, never);
  assert.deepEqual(payloads(outcome.emits), ['{ "n" : 1 }', '{ "n" : 3 }', 'out:{"n":33}']);
  assert.deepEqual(outcome.succeeded, [0, 1, 2]);
  assert.equal(outcome.settled, 3);
});

test("run() emits what a handler returns: nothing, one payload, or several", async () => {
  const returns = [undefined, null, { a: 1 }, [{ b: 1 }, { b: 2 }], []];
  const { processor } = handled((event) => returns[numberOf(event) - 1]);
  const outcome = await processor.run(itemsOf(storedEvents(1, 5)), open, never);
  assert.deepEqual(payloads(outcome.emits), ['out:{"a":1}', 'out:{"b":1}', 'out:{"b":2}']);
});

test("run() gives the handler the event, its attempt, and a context that emits into any stream", async () => {
  const { processor } = handled((event, context) => {
    context.emit("alarms", { seq: event.seq, attempt: context.attempt }, { key: "other", time: 7 });
  });
  const [event] = storedEvents(5, 1, { key: "k" });
  const outcome = await processor.run([{ event: event as StoredEvent, attempt: 3 }], open, never);
  assert.equal(outcome.emits[0]?.stream, "alarms");
  assert.equal(outcome.emits[0].event.key, "other");
  assert.equal(outcome.emits[0].event.time, 7);
  assert.deepEqual(payloads(outcome.emits), ['alarms:{"seq":5,"attempt":3}']);
});

test("run() drops all effects of an event that fails, its state too, and keeps its neighbours'", async () => {
  const { processor, stored } = handled(async (event, context) => {
    const seen = ((await context.state.get("seen")) as number[] | undefined) ?? [];
    context.state.put("seen", [...seen, numberOf(event)]);
    context.state.delete(`old${numberOf(event)}`);
    context.emit("side", { n: numberOf(event) });
    if (numberOf(event) === 2) throw new Error("Two\nlines");
    return { seen: (await context.state.get("seen")) as number[] };
  });
  stored.set("seen", Buffer.from("[0]"));
  const outcome = await processor.run(itemsOf(storedEvents(1, 3)), open, never);
  assert.deepEqual(payloads(outcome.emits), [
    'side:{"n":1}',
    'out:{"seen":[0,1]}',
    'side:{"n":3}',
    'out:{"seen":[0,1,3]}',
  ]);
  assert.deepEqual(
    outcome.state.map(({ space, key, value }) => [
      space,
      key,
      value && Buffer.from(value).toString(),
    ]),
    [
      ["proc", "seen", "[0,1,3]"],
      ["proc", "old1", null],
      ["proc", "old3", null],
    ],
  );
  assert.deepEqual(outcome.succeeded, [0, 2]);
  const [failure] = outcome.failures;
  assert.equal(failure?.index, 1);
  assert.equal(failure.error.code, "HANDLER_FAILED");
  assert.match(failure.error.message, /^Two lines \(at batch-processor\.test\.ts:\d+:\d+\)$/);
});

test("run() asks the store once for a key, and sees what was deleted before", async () => {
  const { processor, asked, stored } = handled(async (event, context) => {
    if (numberOf(event) === 2) context.state.delete("a");
    return { a: (await context.state.get("a")) ?? "none", b: (await context.state.get("b")) ?? 0 };
  });
  stored.set("a", Buffer.from('"kept"'));
  const outcome = await processor.run(itemsOf(storedEvents(1, 3)), open, never);
  assert.deepEqual(payloads(outcome.emits), [
    'out:{"a":"kept","b":0}',
    'out:{"a":"none","b":0}',
    'out:{"a":"none","b":0}',
  ]);
  assert.deepEqual(asked, ["proc/a", "proc/b"]);
});

test("run() fails an event whose payload is not of its format, and whose step throws", async () => {
  const { processor } = processorWith({
    chain: plainChain((event) => {
      if (numberOf(event) === 3) throw new Error("No 3");
      return [event];
    }),
  });
  const events = storedEvents(1, 3);
  events[1] = { ...(events[1] as StoredEvent), payload: Buffer.from([0xff]) };
  const outcome = await processor.run(itemsOf(events), open, never);
  assert.deepEqual(
    outcome.failures.map(({ index, error }) => [index, error.code, error.kind]),
    [
      [1, "EVENT_MALFORMED", "refused"],
      [2, "HANDLER_FAILED", "refused"],
    ],
  );
});

test("put() refuses what JSON cannot hold, and more than 64 KiB", async () => {
  const values: unknown[] = [
    "x".repeat(stateBytesMax - 2),
    "x".repeat(stateBytesMax - 1),
    undefined,
    1n,
    () => 1,
  ];
  const { processor } = handled((event, context) => {
    context.state.put("k", values[numberOf(event) - 1]);
  });
  const outcome = await processor.run(itemsOf(storedEvents(1, 5)), open, never);
  assert.deepEqual(outcome.succeeded, [0]);
  assert.match(outcome.failures[0]?.error.message ?? "", /65537 bytes, at most 65536 are allowed$/);
  assert.match(outcome.failures[1]?.error.message ?? "", /undefined is not JSON$/);
});

test("state refuses a key that is empty or longer than 512 characters", async () => {
  const keys = ["k".repeat(512), "", "k".repeat(513)];
  const { processor } = handled((event, context) => {
    context.state.put(keys[numberOf(event) - 1] ?? "", 1);
  });
  const outcome = await processor.run(itemsOf(storedEvents(1, 3)), open, never);
  assert.deepEqual(outcome.succeeded, [0]);
});

test("emit() refuses more events and more bytes than one event may become", async () => {
  const bytes = "x".repeat(1024 * 1024);
  const { processor } = handled((event, context) => {
    const isMany = numberOf(event) === 1;
    const times = isMany ? emitsMax + 1 : emitBytesMax / bytes.length;
    for (let time = 0; time < times; time++) context.emit("out", isMany ? 1 : bytes);
  });
  const outcome = await processor.run(itemsOf(storedEvents(1, 2)), open, never);
  assert.equal(outcome.emits.length, 0);
  assert.match(outcome.failures[0]?.error.message ?? "", /more than 10000 events/);
  assert.match(outcome.failures[1]?.error.message ?? "", /more than 8388608 bytes/);
});

test("run() ends the batch early once its effects are large", async () => {
  const { processor } = handled(() => ({ text: "x".repeat(1024 * 1024) }));
  const outcome = await processor.run(itemsOf(storedEvents(1, 100)), open, never);
  assert.equal(outcome.settled, 4);
  assert.equal(outcome.emits.length, 4);
});

test("run() fails an event that took the batch's whole time for itself", async () => {
  const { processor, clock } = handled((event, context) =>
    numberOf(event) === 1
      ? new Promise((_, reject) => {
          context.signal.addEventListener("abort", () => reject(context.signal.reason as Error));
        })
      : event.payload,
  );
  const running = processor.run(itemsOf(storedEvents(1, 3)), open, never);
  await turn();
  clock.advance(1000);
  const outcome = await running;
  assert.equal(outcome.settled, 1);
  assert.equal(outcome.failures[0]?.error.code, "HANDLER_TIMEOUT");
  assert.match(outcome.failures[0].error.message, /within 1000 ms$/);
  assert.equal(clock.waiting, 0);
});

test("run() does not fail an event for the time that its neighbours took: it is to be run again", async () => {
  const { processor, clock } = handled((event) =>
    numberOf(event) === 2 ? new Promise(() => undefined) : event.payload,
  );
  const running = processor.run(itemsOf(storedEvents(1, 3)), open, never);
  await turn();
  clock.advance(1000);
  const outcome = await running;
  assert.equal(outcome.settled, 1);
  assert.deepEqual(outcome.failures, []);
  assert.deepEqual(payloads(outcome.emits), ['out:{"n":1}']);
});

test("run() takes no effects of a handler that runs on after its end, and says so once", async () => {
  let runOn: () => void = () => assert.fail("the handler did not run");
  const { processor, context } = handled((_event, handed) => {
    runOn = () => {
      handed.emit("late", {});
      handed.state.put("late", 1);
      handed.state.delete("late");
    };
  });
  const outcome = await processor.run(itemsOf(storedEvents(1, 1)), open, never);
  runOn();
  assert.deepEqual(outcome.emits, []);
  assert.deepEqual(outcome.state, []);
  assert.equal(context.lines.filter(({ level }) => level === "warn").length, 1);
});

test("run() ends at once when it is stopped, with what was done until then", async () => {
  const stop = new AbortController();
  let seen: AbortSignal | undefined;
  const { processor, clock } = handled((event, context) => {
    seen = context.signal;
    return numberOf(event) === 2 ? new Promise(() => undefined) : event.payload;
  });
  const running = processor.run(itemsOf(storedEvents(1, 3)), open, stop.signal);
  await turn();
  stop.abort();
  const outcome = await running;
  assert.equal(outcome.settled, 1);
  assert.deepEqual(outcome.failures, []);
  assert.equal(seen?.aborted, true);
  assert.equal(clock.waiting, 0);
});

test("run() holds, and stops, where the gate says so", async () => {
  const failed: [number, HoldfastError][] = [];
  const gate: Gate = {
    admit: ({ event }) => (event.seq === 2 ? "hold" : event.seq === 6 ? "stop" : "run"),
    failed: ({ event }, error) => {
      failed.push([event.seq, error]);
      return event.seq === 3 ? "go-on" : "stop";
    },
  };
  const failsOn = (n: number) =>
    handled((event) => {
      if (numberOf(event) === n) throw new Error(`No ${n}`);
      return event.payload;
    }).processor;
  const held = await failsOn(3).run(itemsOf(storedEvents(1, 9)), gate, never);
  assert.equal(held.settled, 5);
  assert.deepEqual(held.succeeded, [0, 3, 4]);
  const stopped = await failsOn(4).run(itemsOf(storedEvents(1, 9)), gate, never);
  assert.equal(stopped.settled, 3);
  assert.deepEqual(stopped.failures, []);
  assert.deepEqual(
    failed.map(([seq]) => seq),
    [3, 4],
  );
});

/** What `Stream` promises, on every backend. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { number, object, string } from "superstruct";
import {
  MemoryBackend,
  MemoryStore,
  SqliteStore,
  Stream,
  ValkeyBackend,
  type StreamBackend,
  type StreamOptions,
  type WorkerStore,
} from "../../src/index.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDir, tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

type Reading = { device: string; n: number };
const reading = object({ device: string(), n: number() });
let count = 0;

interface Kind {
  readonly backend: () => StreamBackend;
  readonly state: (t: TestContext) => WorkerStore | "valkey";
}
const valkey = (): StreamBackend => new ValkeyBackend({ url: server.url });
const kinds: Record<string, Kind> = {
  "memory with a memory store": {
    backend: () => new MemoryBackend(),
    state: () => new MemoryStore({ wallMs: () => Date.now() }),
  },
  "a server with SQLite": {
    backend: valkey,
    state: (t) => new SqliteStore({ path: join(tempDir(t), "state.db") }),
  },
  "a server that keeps state too": { backend: valkey, state: () => "valkey" },
};

for (const [kind, { backend, state }] of Object.entries(kinds)) {
  const streamOf = (
    t: TestContext,
    over: Partial<StreamOptions<Reading>> = {},
  ): Stream<Reading> => {
    const stream = new Stream<Reading>({
      topic: `readings-${++count}`,
      group: "g",
      schema: reading,
      backend: backend(),
      state: state(t),
      log: quiet,
      retry: {
        attempts: 3,
        backoffMs: 40,
        maxBackoffMs: 80,
      },
      ...over,
    });
    t.after(() => stream.stop());
    return stream;
  };

  test(`Stream hands what was emitted to its handler, payload as it was: ${kind}`, async (t) => {
    const stream = streamOf(t);
    const seen: unknown[] = [];
    stream.subscribe(
      (event) => void seen.push([event.payload.device, event.payload.n, event.type]),
    );
    const id = await stream.emit({ device: "12345", n: 1 }, { type: "Reading" });
    assert.match(id ?? "", /^\d+-\d+$/);
    await stream.start();
    await until("the event", () => seen.length === 1);
    assert.deepEqual(seen, [["12345", 1, "Reading"]]);
  });

  test(`emit() refuses what does not fit the schema, and stores nothing of its list: ${kind}`, async (t) => {
    const own = backend();
    const topic = `strict-${++count}`;
    const stream = streamOf(t, { backend: own, topic });
    const bad = { device: "a", n: "x" } as unknown as Reading;
    await assert.rejects(stream.emit([{ device: "a", n: 1 }, bad]), {
      code: "EVENT_INVALID",
      message: 'n: found "x", expected number',
    });
    await stream.emit({ device: "a", n: 2 });
    assert.equal(await own.length(topic), 1);
  });

  test(`Stream loses nothing of a burst within a millisecond: ${kind}`, async (t) => {
    const stream = streamOf(t);
    const seen = new Set<number>();
    stream.subscribe((event) => void seen.add(event.payload.n));
    await stream.emit(Array.from({ length: 1_000 }, (_, n) => ({ device: "d", n })));
    await stream.start();
    await until("a thousand events", () => seen.size === 1_000);
  });

  test(`Stream tries a failed event again after its back-off, and its neighbours do not wait: ${kind}`, async (t) => {
    const stream = streamOf(t, { retry: { attempts: 3, backoffMs: 300, maxBackoffMs: 300 } });
    const seen: [number, number, number][] = [];
    stream.subscribe((event, context) => {
      seen.push([event.payload.n, context.attempt, performance.now()]);
      if (event.payload.n === 1 && context.attempt < 3) throw new Error("not yet");
    });
    await stream.emit([0, 1, 2].map((n) => ({ device: "d", n })));
    await stream.start();
    await until("three attempts", () => seen.filter(([n]) => n === 1).length === 3);
    const attempts = seen.filter(([n]) => n === 1);
    assert.deepEqual(
      attempts.map(([, attempt]) => attempt),
      [1, 2, 3],
    );
    const neighbour = seen.find(([n]) => n === 2)?.[2] ?? Infinity;
    assert.ok(neighbour < (attempts[1]?.[2] ?? 0), "the neighbour waited");
    // Equal jitter: half of the delay is fixed.
    for (const at of [1, 2]) {
      const gap = (attempts[at]?.[2] ?? 0) - (attempts[at - 1]?.[2] ?? 0);
      assert.ok(gap >= 145, `tried again after ${gap} ms`);
    }
  });

  test(`Stream leaves no effects of an event that fails, and all of one that does not: ${kind}`, async (t) => {
    const own = backend();
    const out = `out-${++count}`;
    const stream = streamOf(t, { backend: own });
    const totals: unknown[] = [];
    stream.subscribe(async (event, context) => {
      const total = Number((await context.state.get("total")) ?? 0) + event.payload.n;
      context.state.put("total", total);
      context.emit(out, { total });
      if (event.payload.n === 10 && context.attempt === 1) throw new Error("not yet");
      totals.push(total);
    });
    await stream.emit([1, 10, 100].map((n) => ({ device: "d", n })));
    await stream.start();
    await until("three totals", () => totals.length === 3);
    assert.deepEqual(totals, [1, 101, 111]);
    await until("three emitted", async () => (await own.length(out)) === 3);
  });

  test(`Stream keeps a poison event as a dead letter with all that is known of it, and can send it back: ${kind}`, async (t) => {
    const topic = `poison-${++count}`;
    const stream = streamOf(t, { topic });
    let isMended = false;
    const seen: number[] = [];
    stream.subscribe((event) => {
      if (event.payload.n === 1 && !isMended) throw new TypeError("cannot digest this");
      seen.push(event.payload.n);
    });
    const ids = await stream.emit([0, 1, 2].map((n) => ({ device: "d", n })));
    await stream.start();
    const letters = stream.deadLetters();
    await until("the dead letter", async () => (await letters.count()) === 1);
    const [letter] = await letters.list();
    assert.deepEqual(letter?.event?.payload, { device: "d", n: 1 });
    assert.equal(letter?.error, "TypeError: cannot digest this");
    assert.deepEqual([letter?.topic, letter?.group, letter?.attempts], [topic, "g", 3]);
    assert.equal(letter?.originalId, ids[1]);
    assert.match(letter?.stack ?? "", /streams\.test\.ts/);
    assert.ok((letter?.firstMs ?? 0) <= (letter?.movedMs ?? 0));
    assert.deepEqual(
      seen.toSorted((a, b) => a - b),
      [0, 2],
    );
    isMended = true;
    assert.equal(await letters.replay(), 1);
    assert.equal(await letters.replay(), 0);
    await until("the mended one", () => seen.length === 3);
    assert.equal(await letters.count(), 0);
  });

  test(`Stream makes a dead letter of what does not fit, once, and goes on: ${kind}`, async (t) => {
    const own = backend();
    const topic = `unfit-${++count}`;
    const stream = streamOf(t, { backend: own, topic });
    const seen: number[] = [];
    stream.subscribe((event) => void seen.push(event.payload.n));
    await stream.emit({ device: "d", n: 0 });
    const raw = (n: string | Uint8Array) => ["event_type", "x", "device", "d", "n", n];
    await own.append(topic, [raw(Buffer.from([0xff])), raw("seven"), raw("{")]);
    await stream.emit({ device: "d", n: 4 });
    await stream.start();
    await until("the good ones", () => seen.length === 2);
    const letters = stream.deadLetters();
    await until("the bad ones", async () => (await letters.count()) === 3);
    const reasons = (await letters.list()).map(({ error }) => error);
    assert.match(reasons[0] ?? "", /EVENT_MALFORMED: Field n is no UTF-8|TypeError/);
    assert.match(reasons[1] ?? "", /n: found "seven", expected number/);
  });

  test(`subscribeBatch() halves a batch until the poison is alone: ${kind}`, async (t) => {
    const stream = streamOf(t, { retry: { attempts: 1 }, batch: { max: 100 } });
    const seen: number[] = [];
    stream.subscribeBatch(async (events, context) => {
      const sum = Number((await context.state.get("sum")) ?? 0);
      context.state.put("sum", sum + events.length);
      if (events.some(({ payload }) => payload.n === 37)) throw new Error("poison");
      seen.push(...events.map(({ payload }) => payload.n));
    });
    await stream.emit(Array.from({ length: 100 }, (_, n) => ({ device: "d", n })));
    await stream.start();
    const letters = stream.deadLetters();
    await until("the dead letter", async () => (await letters.count()) === 1);
    await until("the others", () => seen.length === 99);
    assert.equal(new Set(seen).size, 99);
  });

  test(`Stream keeps the order of each key with many handled beside each other, failures too: ${kind}`, async (t) => {
    const stream = streamOf(t, { key: "device", concurrency: 8, batch: { max: 50 } });
    const last = new Map<string, number>();
    let [done, disorder] = [0, 0];
    stream.subscribe(async ({ payload: { device, n } }, context) => {
      await new Promise((resolve) => setTimeout(resolve, (n * 7) % 5));
      if (n % 29 === 3 && context.attempt === 1) throw new Error("not yet");
      if (n < (last.get(device) ?? -1)) disorder += 1;
      last.set(device, n);
      done += 1;
    });
    await stream.emit(Array.from({ length: 300 }, (_, n) => ({ device: `d${n % 11}`, n })));
    await stream.start();
    await until("all", () => done === 300);
    assert.equal(disorder, 0);
  });

  test(`Stream counts right where events beside each other change one state: ${kind}`, async (t) => {
    const stream = streamOf(t, { concurrency: 8 });
    let total = 0;
    stream.subscribe(async (_event, context) => {
      const known = Number((await context.state.get("count")) ?? 0);
      await new Promise((resolve) => setTimeout(resolve, 1));
      context.state.put("count", known + 1);
      total = Math.max(total, known + 1);
    });
    await stream.emit(Array.from({ length: 60 }, (_, n) => ({ device: "d", n })));
    await stream.start();
    await until("sixty", () => total === 60);
  });

  for (const over of [{}, { key: "device" }]) {
    test(`replay() has a group handle again what lies from a time on, as often as asked: ${kind} ${JSON.stringify(over)}`, async (t) => {
      const stream = streamOf(t, over);
      const seen: number[] = [];
      stream.subscribe(async (event, context) => {
        context.state.put("last", event.payload.n);
        seen.push(event.payload.n);
      });
      const committed = (total: number): Promise<void> =>
        until(`${total} handled and committed`, async () => {
          return (await stream.health()).subscriptions[0]?.succeeded === total;
        });
      await stream.emit([0, 1].map((n) => ({ device: "d", n })));
      await new Promise((resolve) => setTimeout(resolve, 5));
      const from = new Date();
      await stream.emit([2, 3].map((n) => ({ device: "d", n })));
      await stream.start();
      await committed(4);
      await stream.replay(from);
      await committed(6);
      await stream.replay("start");
      await committed(10);
      await stream.emit({ device: "d", n: 4 });
      await committed(11);
      assert.deepEqual(seen, [0, 1, 2, 3, 2, 3, 0, 1, 2, 3, 4]);
    });
  }

  test(`late() moves an event to the late topic as it was: ${kind}`, async (t) => {
    const own = backend();
    const topic = `tide-${++count}`;
    const stream = streamOf(t, { backend: own, topic });
    stream.subscribe((event, context) => {
      if (event.payload.n === 1) context.late();
    });
    await stream.emit([0, 1].map((n) => ({ device: "d", n })));
    await stream.start();
    await until("the late one", async () => (await own.length(`${topic}-late`)) === 1);
    const [entry] = await own.range(`${topic}-late`, "-", 1);
    assert.ok(entry?.fields.some((value) => String(Buffer.from(value)) === "1"));
  });

  test(`Stream gives a handler up that does not end in its time, and tries again: ${kind}`, async (t) => {
    const stream = streamOf(t, { timeoutMs: 100 });
    const attempts: number[] = [];
    stream.subscribe(async (_event, context) => {
      attempts.push(context.attempt);
      if (context.attempt === 1) await new Promise(() => undefined);
    });
    await stream.emit({ device: "d", n: 1 });
    await stream.start();
    await until("the second attempt", () => attempts.length === 2);
  });

  test(`health() and metrics() tell what was handled, what failed and what waits: ${kind}`, async (t) => {
    const stream = streamOf(t, { retry: { attempts: 2, backoffMs: 10 }, batch: { max: 1 } });
    assert.equal((await stream.health()).backend, "not opened yet");
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    stream.subscribe(async ({ payload: { n } }) => {
      if (n === 2) await gate;
      if (n === 1) throw new Error("no good");
    });
    await stream.emit([0, 1, 2, 3].map((n) => ({ device: "d", n })));
    await stream.start();
    const health = async () => (await stream.health()).subscriptions[0];
    await until("what waits behind the gate", async () => {
      const said = await health();
      return (
        said !== undefined && said.succeeded > 0 && (said.waiting ?? 0) + (said.pending ?? 0) > 1
      );
    });
    go();
    await until("all", async () => {
      const said = await health();
      return said?.succeeded === 3 && said.deadLetters === 1 && said.pending === 0;
    });
    const said = await health();
    assert.deepEqual([said?.failed, said?.waiting, said?.trouble], [1, 0, null]);
    assert.equal(said?.lastError, "no good");
    const text = await stream.metrics();
    const labels = `stream="${said?.topic}",group="g"`;
    assert.ok(text.includes(`stream_lag{${labels}} 0\n`), text);
    assert.ok(
      text.includes(`stream_messages_processed_total{${labels},status="success"} 3\n`),
      text,
    );
    const count = Number(/stream_processing_seconds_count\{.*\} (\d+)/.exec(text)?.[1]);
    const within = Number(/stream_processing_seconds_bucket\{.*le="\+Inf"\} (\d+)/.exec(text)?.[1]);
    assert.ok(count >= 4 && within === count, text);
  });

  test(`stop() ends what is handled and leaves nothing pending of it: ${kind}`, async (t) => {
    const own = backend();
    const topic = `stop-${++count}`;
    const first = streamOf(t, { backend: own, topic, batch: { max: 10 } });
    const seen: number[] = [];
    first.subscribe(async (event) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      seen.push(event.payload.n);
    });
    await first.emit(Array.from({ length: 200 }, (_, n) => ({ device: "d", n })));
    await first.start();
    await until("some", () => seen.length > 5);
    await first.stop();
    const before = seen.length;
    assert.ok(before < 200);
    if (kind.startsWith("memory")) return;
    const second = streamOf(t, { topic });
    second.subscribe((event) => void seen.push(event.payload.n));
    await second.start();
    await until("the rest", () => seen.length >= 200);
    assert.equal(new Set(seen).size, 200);
    assert.equal(seen.length, 200);
  });

  test(`emit() is refused by a full topic that a group has not read, and trims what it has: ${kind}`, async (t) => {
    const own = backend();
    const topic = `full-${++count}`;
    const stream = streamOf(t, { backend: own, topic, maxLength: 50 });
    await own.open();
    const member = await own.join({ topic, group: "g", from: "start", leaseMs: 1_000 });
    const some = (count: number) => Array.from({ length: count }, (_, n) => ({ device: "d", n }));
    await stream.emit(some(50));
    await assert.rejects(stream.emit({ device: "d", n: 1 }), { code: "STREAM_FULL" });
    const batch = await member.read(30, 0, new AbortController().signal);
    await assert.rejects(stream.emit({ device: "d", n: 1 }), { code: "STREAM_FULL" });
    await member.settle({ done: batch.deliveries.map(({ id }) => id), failed: [], moved: [] });
    await stream.emit(some(20));
    assert.ok((await own.length(topic)) <= 50);
    const rest = await member.read(100, 0, new AbortController().signal);
    assert.equal(rest.deliveries.length, 40);
  });
}

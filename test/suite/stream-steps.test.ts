/** Steps as a worker's handler, on every place where state lies. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import {
  MemoryBackend,
  MemoryStore,
  SqliteStore,
  Steps,
  Stream,
  ValkeyBackend,
  type EventHandler,
  type StreamBackend,
  type WorkerStore,
} from "../../src/index.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDir, tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

const say = (): void => undefined;
const log = { debug: say, info: say, warn: say, error: say };
const start = Date.UTC(2026, 0, 1);
let count = 0;

interface Kind {
  /** For one worker and another. */
  readonly backend: () => () => StreamBackend;
  readonly state: (t: TestContext) => () => WorkerStore | "valkey";
}
const kinds: Record<string, Kind> = {
  memory: {
    backend: () => {
      const one = new MemoryBackend();
      return () => one;
    },
    state: () => {
      const one = new MemoryStore({ wallMs: () => Date.now() });
      return () => one;
    },
  },
  "a server with SQLite": {
    backend: () => () => new ValkeyBackend({ url: server.url }),
    state: (t) => {
      const path = join(tempDir(t), "state.db");
      return () => new SqliteStore({ path });
    },
  },
  "a server that keeps state too": {
    backend: () => () => new ValkeyBackend({ url: server.url }),
    state: () => () => "valkey",
  },
};

type Payload = { device?: string; n: number };

interface Line {
  /** Emits a reading of `device`, `second` seconds after the start; without a device it has no key. */
  emit(n: number, second: number, device?: string): Promise<void>;
  /** What came into a topic, in order. */
  came(suffix: string, count: number): Promise<unknown[]>;
}

/** Two workers run `handle`, and somebody reads what they emit. */
async function startedLine(
  t: TestContext,
  { backend, state }: Kind,
  handle: (topic: string) => EventHandler<Payload>,
): Promise<Line> {
  const topic = `{steps-${++count}}`;
  const backendOf = backend();
  const storeOf = state(t);
  const create = (): Stream<Payload> =>
    new Stream<Payload>({
      topic,
      group: "g",
      key: "device",
      backend: backendOf(),
      state: storeOf(),
      retry: { attempts: 3, backoffMs: 10, maxBackoffMs: 20 },
      log,
    });
  const workers = [create(), create()];
  for (const worker of workers) worker.subscribe(handle(topic));
  const seen = new Map<string, unknown[]>();
  const readers = ["out", "out-refused", "late", "dlq"].map((suffix) => {
    const all: unknown[] = [];
    seen.set(suffix, all);
    const reader = new Stream<unknown>({
      topic: `${topic}-${suffix}`,
      group: "reader",
      backend: backendOf(),
      state: new MemoryStore({ wallMs: () => Date.now() }),
      log,
    });
    reader.subscribe((event) => void all.push(event.payload));
    return reader;
  });
  t.after(() => Promise.all([...workers, ...readers].map((each) => each.stop())));
  await Promise.all([...workers, ...readers].map((each) => each.start()));
  const [worker] = workers;
  return {
    async emit(n, second, device) {
      await worker?.emit(
        { n, ...(device !== undefined && { device }) },
        { time: start + second * 1000 },
      );
    },
    async came(suffix, wanted) {
      const all = seen.get(suffix) ?? [];
      await until(`${wanted} in ${suffix}`, () => all.length >= wanted);
      return all;
    },
  };
}

const windowed = [
  { filter: "payload.n != 3" },
  { window: { tumbling: "10s", aggregate: { sum: "sum(n)" } } },
];

for (const [name, kind] of Object.entries(kinds)) {
  test(`Steps.handler() runs steps on each key by itself, whichever worker has it: ${name}`, async (t) => {
    const line = await startedLine(t, kind, (topic) => new Steps(windowed).handler(`${topic}-out`));
    for (const [n, second] of [1, 2, 3, 4].entries()) await line.emit(n + 1, second, "a");
    // The time of one key does not close the windows of another.
    await line.emit(100, 50, "b");
    await line.emit(5, 9, "a");
    await line.emit(6, 10, "a");
    await line.emit(7, 1, "a");
    const late = await line.came("late", 1);
    assert.deepEqual(late, [{ device: "a", n: 7 }]);
    const [end, begin] = [start + 10_000, start];
    const [result] = await line.came("out", 1);
    assert.deepEqual(result, { start: begin, end, key: "a", count: 4, sum: 12 });
  });

  test(`Steps.handler() counts an event once that is handled again: ${name}`, async (t) => {
    const line = await startedLine(t, kind, (topic) => {
      const run = new Steps(windowed).handler(`${topic}-out`);
      return async (event, context) => {
        await run(event, context);
        if (context.attempt < 3) throw new Error("Something else went wrong");
      };
    });
    for (const n of [1, 2]) await line.emit(n, n, "a");
    await line.emit(4, 10, "a");
    const [result] = await line.came("out", 1);
    assert.deepEqual(result, { start, end: start + 10_000, key: "a", count: 2, sum: 3 });
  });
}

test("Steps.handler() refuses an event without a key where steps remember, and needs none where they do not", async (t) => {
  const [kind] = Object.values(kinds) as [Kind];
  const keyless = await startedLine(t, kind, (topic) =>
    new Steps([{ map: { m: "payload.n * 2.0" } }]).handler(`${topic}-out`),
  );
  await keyless.emit(1, 0);
  assert.deepEqual(await keyless.came("out", 1), [{ m: 2 }]);
  const keyed = await startedLine(t, kind, (topic) => new Steps(windowed).handler(`${topic}-out`));
  await keyed.emit(1, 0);
  await keyed.came("dlq", 1);
});

test("Steps.handler() emits aside what a later step cannot deal with, and goes on", async (t) => {
  const [kind] = Object.values(kinds) as [Kind];
  const line = await startedLine(t, kind, (topic) =>
    new Steps([...windowed, { filter: "payload.sum != 1.0 || payload.nothing" }]).handler(
      `${topic}-out`,
    ),
  );
  for (const [n, second] of [
    [1, 0],
    [2, 10],
    [4, 20],
  ] as const) {
    await line.emit(n, second, "a");
  }
  const [result] = await line.came("out", 1);
  assert.equal((result as { sum: number }).sum, 2);
  const [refused] = await line.came("out-refused", 1);
  const { error, payload } = refused as { error: string; payload: { sum: number } };
  assert.match(error, /nothing/);
  assert.equal(payload.sum, 1);
});

/**
 * A topic with workers that count: each event's `n` goes into another topic, with a count kept in state. What is there at
 * the end are effects, however often a handler was called.
 */
import { join } from "node:path";
import type { TestContext } from "node:test";
import { SqliteStore, Stream, type StreamOptions } from "../../src/index.ts";
import type { StreamBackend } from "../../src/stream/backend.ts";
import { compact } from "../../src/wire/compact.ts";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

export interface StreamLine {
  readonly topic: string;
  /** Emits `from` up to `to`, without it; resolves when all are stored. */
  emit(from: number, to: number): Promise<void>;
  /** How often each `n` came out. */
  outcome(): Promise<Map<number, number>>;
  /** Waits until each of these came out; gives those that came out more than once. */
  all(from: number, to: number): Promise<number[]>;
  /** What the workers say is wrong. */
  trouble(): Promise<string[]>;
  /** Messages that were logged. */
  readonly said: string[];
}

export interface StreamLinePlan {
  readonly backend: () => StreamBackend;
  readonly state: "sqlite" | "valkey";
  readonly workers?: number;
  readonly options?: Partial<StreamOptions<{ n: number }>>;
}

let count = 0;

export async function startLine(t: TestContext, plan: StreamLinePlan): Promise<StreamLine> {
  const topic = `{line-${++count}}`;
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const file = join(tempDir(t), "state.db");
  const create = (): Stream<{ n: number; key: string }> =>
    new Stream({
      topic,
      group: "g",
      encoding: "compact",
      backend: plan.backend(),
      state: plan.state === "valkey" ? "valkey" : new SqliteStore({ path: file }),
      timeoutMs: 2_000,
      leaseMs: 2_000,
      retry: { attempts: 5, backoffMs: 10, maxBackoffMs: 50 },
      log: { debug: say, info: say, warn: say, error: say },
      ...(plan.options as object),
    });
  const streams = Array.from({ length: plan.workers ?? 1 }, () => {
    const stream = create();
    stream.subscribe(async ({ payload: { n } }, context) => {
      const known = Number((await context.state.get(`${n}`)) ?? 0);
      context.state.put(`${n}`, known + 1);
      context.emit(`${topic}-out`, { n });
    });
    return stream;
  });
  const emitter = create();
  const reader = plan.backend();
  t.after(async () => {
    await Promise.all([...streams, emitter].map((stream) => stream.stop()));
    await reader.close();
  });
  await reader.open();
  await Promise.all(streams.map((stream) => stream.start()));
  const outcome = async (): Promise<Map<number, number>> => {
    const found = new Map<number, number>();
    for (let after = "-"; ;) {
      const entries = await reader.range(`${topic}-out`, after, 1_000);
      for (const { fields } of entries) {
        const { n } = compact.decode(fields).payload as { n: number };
        found.set(n, (found.get(n) ?? 0) + 1);
      }
      const last = entries.at(-1);
      if (last === undefined) return found;
      after = `(${last.id}`;
    }
  };
  return {
    topic,
    said,
    outcome,
    async emit(from, to) {
      const events = Array.from({ length: to - from }, (_, at) => from + at);
      await emitter.emit(events.map((n) => ({ n, key: `k${n % 7}` })));
    },
    async all(from, to) {
      let found = new Map<number, number>();
      const wanted = Array.from({ length: to - from }, (_, at) => from + at);
      const isThere = (n: number): boolean => found.has(n);
      await until(
        `all of ${from} to ${to}`,
        async () => {
          // While the server is away there is nothing to read.
          found = await outcome().catch(() => found);
          return wanted.every(isThere);
        },
        60_000,
      );
      return wanted.filter((n) => (found.get(n) ?? 0) > 1);
    },
    async trouble() {
      const all = await Promise.all(streams.map((stream) => stream.health()));
      return all.flatMap(({ subscriptions }) =>
        subscriptions.map(({ trouble }) => trouble).filter((each) => each !== null),
      );
    },
  };
}

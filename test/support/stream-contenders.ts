/** Ways to send events through a server and to take them from it, beside which `Stream` is measured. */
import { Redis } from "iovalkey";
import { Queue, Worker as JobWorker } from "bullmq";
import { MemoryBackend, MemoryStore, SqliteStore, Stream, ValkeyBackend } from "../../src/index.ts";
import type { StreamBackend, StreamOptions } from "../../src/index.ts";
import type { WorkerStore } from "../../src/state/state.ts";
import { quiet } from "./quiet-log.ts";

export interface Reading {
  readonly device: string;
  readonly n: number;
  readonly temperature: number;
  readonly unit: string;
}

export const readingOf = (n: number): Reading => ({
  device: `device-${n % 50}`,
  n,
  temperature: 20 + (n % 100) / 10,
  unit: "celsius",
});

export interface Sender {
  /** One after the other: each is waited for. */
  each(events: readonly Reading[]): Promise<void>;
  /** All at once, one call for each. Left out: it has no such thing. */
  gathered?(events: readonly Reading[]): Promise<void>;
  /** In lists of so many, each waited for. */
  lists(events: readonly Reading[], size: number): Promise<void>;
  close(): Promise<void>;
}

/** `valkey:` and `unix:` URLs are a server's; null is memory. */
export function backendOf(url: string | null): StreamBackend {
  return url === null ? new MemoryBackend() : new ValkeyBackend({ url });
}

export function streamSender(
  url: string | null,
  topic: string,
  over: Partial<StreamOptions<Reading>> = {},
): Sender {
  const stream = new Stream<Reading>({ topic, backend: backendOf(url), log: quiet, ...over });
  return {
    async each(events) {
      for (const event of events) await stream.emit(event);
    },
    async gathered(events) {
      await Promise.all(events.map((event) => stream.emit(event)));
    },
    async lists(events, size) {
      for (let at = 0; at < events.length; at += size) {
        await stream.emit(events.slice(at, at + size));
      }
    },
    close: () => stream.stop(),
  };
}

export function redisOf(url: string): Redis {
  return url.startsWith("unix:") ? new Redis(url.slice("unix://".length)) : new Redis(url);
}

/** The fields that our default encoding writes, without making an ID and a time for each. */
const fieldsOf = (event: Reading): string[] =>
  Object.entries(event).flatMap(([name, value]) => [name, String(value)]);

export function plainSender(url: string, topic: string): Sender {
  const redis = redisOf(url);
  const pipelined = async (events: readonly Reading[]): Promise<void> => {
    const pipeline = redis.pipeline();
    for (const event of events) pipeline.xadd(topic, "*", ...fieldsOf(event));
    await pipeline.exec();
  };
  return {
    async each(events) {
      for (const event of events) await redis.xadd(topic, "*", ...fieldsOf(event));
    },
    async gathered(events) {
      await Promise.all(events.map((event) => redis.xadd(topic, "*", ...fieldsOf(event))));
    },
    async lists(events, size) {
      for (let at = 0; at < events.length; at += size) await pipelined(events.slice(at, at + size));
    },
    close: async () => void (await redis.quit()),
  };
}

const connectionOf = (url: string): object => {
  const { hostname, port, pathname } = new URL(url);
  const where = url.startsWith("unix:")
    ? { path: pathname }
    : { host: hostname, port: Number(port) };
  return { ...where, maxRetriesPerRequest: null };
};

export function bullSender(url: string, topic: string): Sender {
  const queue = new Queue(topic, { connection: connectionOf(url) });
  const options = { removeOnComplete: true };
  return {
    async each(events) {
      for (const data of events) await queue.add("reading", data, options);
    },
    async gathered(events) {
      await Promise.all(events.map((data) => queue.add("reading", data, options)));
    },
    async lists(events, size) {
      for (let at = 0; at < events.length; at += size) {
        const part = events.slice(at, at + size);
        await queue.addBulk(part.map((data) => ({ name: "reading", data, opts: options })));
      }
    },
    close: () => queue.close(),
  };
}

export interface Taking {
  readonly url: string | null;
  readonly topic: string;
  /** The most of a batch; of jobs, how many run beside each other. */
  readonly batch: number;
  readonly count: number;
}

/** What handlers do with state: nothing, or one counter for each device. */
export type Keeping = "none" | "valkey" | WorkerStore;

export const memoryStore = (): WorkerStore => new MemoryStore({ wallMs: () => Date.now() });
export const sqliteStore = (path: string): WorkerStore => new SqliteStore({ path });

/** Takes what `backend` has, or (without one) what the server at `url` has, until all of it is acknowledged. */
export async function takeByStream(
  { url, topic, batch, count }: Taking,
  keeping: Keeping,
  isBatch: boolean,
  backend: StreamBackend = backendOf(url),
): Promise<void> {
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const stream = new Stream<Reading>({
    topic,
    backend,
    group: "bench",
    log: quiet,
    batch: { max: batch },
    ...(keeping === "none" ? { state: memoryStore() } : { state: keeping }),
  });
  let seen = 0;
  const passed = (more: number): void => {
    seen += more;
    if (seen >= count) resolve();
  };
  if (isBatch) {
    stream.subscribeBatch(async (events, context) => {
      if (keeping !== "none") {
        const known = ((await context.state.get("counts")) ?? {}) as Record<string, number>;
        for (const { payload } of events) known[payload.device] = (known[payload.device] ?? 0) + 1;
        context.state.put("counts", known);
      }
      passed(events.length);
    });
  } else {
    stream.subscribe(async ({ payload }, context) => {
      if (keeping !== "none") {
        const known = Number((await context.state.get(payload.device)) ?? 0);
        context.state.put(payload.device, known + 1);
      }
      passed(1);
    });
  }
  await stream.start();
  await all;
  await stream.stop();
}

export async function takeByPlainReads({ url, topic, batch, count }: Taking): Promise<void> {
  const redis = redisOf(url ?? "");
  await redis.xgroup("CREATE", topic, "plain", "0", "MKSTREAM");
  for (let seen = 0; seen < count;) {
    const found = (await redis.xreadgroup(
      "GROUP",
      "plain",
      "c",
      "COUNT",
      batch,
      "STREAMS",
      topic,
      ">",
    )) as [string, [string, string[]][]][] | null;
    const entries = found?.[0]?.[1] ?? [];
    for (const [, fields] of entries) {
      const event: Record<string, string> = {};
      for (let at = 0; at < fields.length; at += 2) event[fields[at] ?? ""] = fields[at + 1] ?? "";
      if (event["device"] === undefined) throw new Error("It was read wrongly");
    }
    await redis.xack(topic, "plain", ...entries.map(([id]) => id));
    seen += entries.length;
  }
  await redis.quit();
}

export async function takeByBull({ url, topic, batch, count }: Taking): Promise<void> {
  const { promise: all, resolve } = Promise.withResolvers<void>();
  let seen = 0;
  const worker = new JobWorker(
    topic,
    () => {
      seen += 1;
      if (seen >= count) resolve();
      return Promise.resolve();
    },
    { connection: connectionOf(url ?? ""), concurrency: batch },
  );
  await all;
  await worker.close();
}

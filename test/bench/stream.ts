/**
 * What `Stream` costs beside plain iovalkey, which promises nothing of what ours does (validation, one ID for ever,
 * repetition without doubling, effects once), and beside BullMQ, a job queue on the same server. The contenders take
 * turns, round by round, so that what else the machine does hits all alike: read the ratios, which are of one round.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cpuSecondsOf } from "../support/cpu-seconds.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import {
  backendOf,
  bullSender,
  plainSender,
  readingOf,
  sqliteStore,
  streamSender,
  takeByBull,
  takeByPlainReads,
  takeByStream,
  type Keeping,
  type Reading,
  type Sender,
  type Taking,
} from "../support/stream-contenders.ts";
import type { StreamBackend } from "../../src/index.ts";

const rounds = 3;

interface Figures {
  readonly perSecond: number;
  /** µs of this process, and of the server's, for each event. */
  readonly cpu: number;
  readonly serverCpu: number;
}

const say = (line: string): boolean => process.stdout.write(`${line}\n`);
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const whole = (value: number): string => Math.round(value).toLocaleString("en");

const cpuOf = (pid: number): number => cpuSecondsOf(pid) * 1e6;

async function measured(
  server: RedisServer,
  count: number,
  work: () => Promise<void>,
): Promise<Figures> {
  const [cpu, serverCpu, began] = [process.cpuUsage(), cpuOf(server.pid()), performance.now()];
  await work();
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    perSecond: count / seconds,
    cpu: (user + system) / count,
    serverCpu: (cpuOf(server.pid()) - serverCpu) / count,
  };
}

type Contest = ReadonlyMap<string, (round: number) => Promise<Figures>>;

/** The first is ours, to which the others are set; one round before those that count. */
async function contest(title: string, contenders: Contest): Promise<void> {
  const found = new Map<string, Figures[]>();
  for (let round = 0; round <= rounds; round += 1) {
    for (const [what, run] of contenders) {
      const figures = await run(round);
      if (round > 0) found.set(what, [...(found.get(what) ?? []), figures]);
    }
  }
  const [ours = []] = found.values();
  for (const [what, figures] of found) {
    const ratios = figures.map(({ perSecond }, at) => (ours[at]?.perSecond ?? 0) / perSecond);
    const beside =
      figures === ours
        ? " | "
        : `${median(ratios).toFixed(2)} | ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    const of = (name: keyof Figures): number => median(figures.map((one) => one[name]));
    say(
      `| ${title} | ${what} | ${whole(of("perSecond"))} | ${of("cpu").toFixed(1)} | ${of("serverCpu").toFixed(1)} | ${beside} |`,
    );
  }
}

const header = (about: string): void => {
  say(`\n${about}\n`);
  say("| how | what | events/s | CPU µs each | server's | ours to this | in the rounds |");
  say("| --- | --- | ---: | ---: | ---: | ---: | --- |");
};

interface Places {
  readonly server: RedisServer;
  readonly folder: string;
  readonly unix: string;
  readonly tcp: string;
}

let topics = 0;
const topicOf = (): string => `bench-${++topics}`;

function sending(
  { server, unix, tcp }: Places,
  events: readonly Reading[],
  send: (sender: Sender) => Promise<void>,
): Contest {
  const one = (make: (topic: string) => Sender) => async (): Promise<Figures> => {
    const sender = make(topicOf());
    await sender.lists(events.slice(0, 1), 1);
    const figures = await measured(server, events.length, () => send(sender));
    await sender.close();
    server.cli("FLUSHALL");
    return figures;
  };
  return new Map([
    ["Stream, unix socket", one((topic) => streamSender(unix, topic))],
    [
      "Stream, unix socket, compact",
      one((topic) => streamSender(unix, topic, { encoding: "compact" })),
    ],
    ["Stream, TCP", one((topic) => streamSender(tcp, topic))],
    ["Stream, memory", one((topic) => streamSender(null, topic))],
    ["iovalkey XADD, unix socket", one((topic) => plainSender(unix, topic))],
    ["iovalkey XADD, TCP", one((topic) => plainSender(tcp, topic))],
    ["BullMQ, unix socket", one((topic) => bullSender(unix, topic))],
  ]);
}

async function filled(url: string, topic: string, count: number): Promise<void> {
  const sender = streamSender(url, topic);
  await sender.lists(
    Array.from({ length: count }, (_, n) => readingOf(n)),
    1_000,
  );
  await sender.close();
}

function taking(places: Places, batch: number, count: number, isBatch: boolean): Contest {
  const { server, folder, unix } = places;
  const ours = (url: string | null, keeping: () => Keeping) => async (): Promise<Figures> => {
    const topic = topicOf();
    let backend: StreamBackend | undefined;
    if (url === null) {
      backend = backendOf(null);
      const sender = streamSender(null, topic, { backend });
      await sender.lists(
        Array.from({ length: count }, (_, n) => readingOf(n)),
        1_000,
      );
    } else await filled(url, topic, count);
    const plan: Taking = { url, topic, batch, count };
    const figures = await measured(server, count, () =>
      takeByStream(plan, keeping(), isBatch, backend),
    );
    server.cli("FLUSHALL");
    return figures;
  };
  const others =
    (take: (plan: Taking) => Promise<void>, fill: (topic: string) => Promise<void>) =>
    async (): Promise<Figures> => {
      const topic = topicOf();
      await fill(topic);
      const figures = await measured(server, count, () => take({ url: unix, topic, batch, count }));
      server.cli("FLUSHALL");
      return figures;
    };
  const sqlite = (): Keeping => sqliteStore(join(folder, `${topicOf()}.db`));
  const jobs = async (topic: string): Promise<void> => {
    const sender = bullSender(unix, topic);
    await sender.lists(
      Array.from({ length: count }, (_, n) => readingOf(n)),
      1_000,
    );
    await sender.close();
  };
  return new Map([
    ["Stream, no state", ours(unix, () => "none")],
    ["Stream, state in SQLite, synced", ours(unix, sqlite)],
    ["Stream, state beside the stream", ours(unix, () => "valkey")],
    ["Stream, memory, no state", ours(null, () => "none")],
    [
      "iovalkey XREADGROUP and XACK",
      others(takeByPlainReads, (topic) => filled(unix, topic, count)),
    ],
    ["BullMQ, as many beside each other", others(takeByBull, jobs)],
  ]);
}

export async function run(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const server = await startRedis(folder);
  const places = { server, folder, unix: `unix://${server.socket}`, tcp: server.url };
  const events = (count: number): Reading[] =>
    Array.from({ length: count }, (_, n) => readingOf(n));
  try {
    header(`Emitting; medians of ${rounds} rounds, in which the contenders take turns.`);
    await contest(
      "one by one, awaited",
      sending(places, events(2_000), (each) => each.each(events(2_000))),
    );
    const many = events(20_000);
    await contest(
      "gathered",
      sending(places, many, async (each) => each.gathered?.(many)),
    );
    for (const size of [1, 100, 1_000]) {
      const some = size === 1 ? events(2_000) : many;
      await contest(
        `lists of ${size}`,
        sending(places, some, (each) => each.lists(some, size)),
      );
    }
    header(
      "Taking, until all is acknowledged; unix socket; one counter for each of 50 devices as state.",
    );
    for (const batch of [1, 100, 1_000]) {
      const count = batch === 1 ? 2_000 : 20_000;
      await contest(`one event a call, batches of ${batch}`, taking(places, batch, count, false));
    }
    for (const batch of [100, 1_000]) {
      await contest(`batch handler, ${batch}`, taking(places, batch, 20_000, true));
    }
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

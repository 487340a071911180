/** The valkey sink between a real journal and a real server: each event exactly once, whatever was lost on either side. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Delivery } from "../../src/flow/delivery.ts";
import type { Journal, JournalHistory } from "../../src/journal/journal.ts";
import { createValkeySink, type ValkeySinkSettings } from "../../src/sink/valkey.ts";
import { range } from "../support/archive-names.ts";
import { startLossyProxy } from "../support/lossy-proxy.ts";
import { freePort } from "../support/mosquitto.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { serverProgram, startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";
import { namesIn, valkeySettings } from "../support/valkey-far-side.ts";

const stream = "readings";
const groups = [{ group: "cloud", streams: [stream, "_gaps"] }];

/** One card in one board. */
class Device {
  readonly folder: string;
  readonly #t: TestContext;
  readonly #board: string | null;
  context: RecordingContext = recordingContext("cloud");
  journal!: Journal & JournalHistory;
  #delivery: Delivery | undefined;

  constructor(t: TestContext, folder: string, board: string | null = "board-1") {
    this.#t = t;
    this.folder = folder;
    this.#board = board;
  }

  async start(): Promise<this> {
    const { folder } = this;
    const board = this.#board;
    ({ journal: this.journal } = await openJournal(this.#t, { folder, groups, board, linger: 1 }));
    return this;
  }

  /** Payloads tell who wrote them. */
  async write(count: number, whose: string): Promise<void> {
    const all = range(1, count).map((n) =>
      append(this.journal, stream, event(JSON.stringify({ whose, n }))),
    );
    await Promise.all(all);
  }

  deliver(url: string, more: Partial<ValkeySinkSettings> = {}): void {
    const { journal } = this;
    this.context = recordingContext("cloud");
    const context = { ...this.context, random: () => 0 };
    const sink = createValkeySink(context, valkeySettings(url, more), { device: "box" });
    const formats = new Map([[stream, "json" as const]]);
    const parts = { context, journal, sink, streams: [stream], formats, device: "box" };
    this.#delivery = createDelivery(parts);
    this.#t.after(() => this.#delivery?.stop(0));
    this.#delivery.start();
  }

  async replay(seq: number, again: boolean): Promise<number | undefined> {
    const order = { stream, from: { seq }, state: null, again };
    return (await this.#delivery?.rewind(order))?.from;
  }

  async delivered(): Promise<void> {
    await until(
      `the delivery: ${JSON.stringify(this.context.lines)}`,
      () => this.#delivery?.lag().get(stream) === 0 && this.context.now().status === "ok",
      60_000,
    );
  }

  async stop(): Promise<void> {
    await this.#delivery?.stop(1000);
    this.#delivery = undefined;
    await this.journal.close();
  }

  /** A copy of the card. */
  copy(board: string | null): Device {
    const folder = tempDir(this.#t);
    cpSync(this.folder, folder, { recursive: true });
    return new Device(this.#t, folder, board);
  }

  get epoch(): string {
    return this.journal.identity().epoch;
  }

  async gaps(): Promise<unknown[]> {
    const { events } = await this.journal.read("_gaps", 0, 1000, 1 << 20);
    return events.map(({ payload }) => JSON.parse(Buffer.from(payload).toString()) as unknown);
  }
}

async function scene(t: TestContext): Promise<{ server: RedisServer; device: Device }> {
  const server = await startRedis(tempDir(t), { durable: true });
  t.after(() => server.kill());
  return { server, device: await new Device(t, tempDir(t)).start() };
}

const named = (epoch: string, from: number, to: number): string[] =>
  range(from, to).map((seq) => `box/${epoch}/${stream}/${seq}`);

/** What the server holds is this, each once; the order within a history is kept. */
function assertHolds(server: RedisServer, names: readonly string[]): void {
  assert.deepEqual(namesIn(server, `box:${stream}`), names);
}

test("a cursor that was lost moves up to what the server holds: nothing is sent again", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "a");
  device.deliver(server.url);
  await device.delivered();
  await device.stop();
  await device.start();
  const back = [{ stream, from: 100, to: 7 }];
  assert.equal(await device.journal.commit({ group: "cloud", cursors: back }, "soon"), "committed");
  await device.write(10, "a");
  device.deliver(server.url);
  await device.delivered();
  assertHolds(server, named(device.epoch, 1, 110));
  assert.equal(
    server.cli("HGETALL", "{box:readings}:holdfast:box:readings").match(/1-110:/g)?.length,
    1,
  );
});

test("answers that are lost on the way repeat nothing", async (t) => {
  const { server, device } = await scene(t);
  let appends = 0;
  // Of the script's own answers, `[1, ranges]`, each second one.
  const proxy = await startLossyProxy(
    t,
    server.port,
    (answer) => answer.toString().startsWith("*2\r\n:1") && ++appends % 2 === 1,
  );
  device.deliver(`redis://127.0.0.1:${proxy.port}`);
  let written = 0;
  while (proxy.lost() < 4) {
    await device.write(40, "a");
    written += 40;
    await device.delivered();
  }
  await device.delivered();
  assertHolds(server, named(device.epoch, 1, written));
});

test("a server that hangs is given up, and what it did when it went on is not done twice", async (t) => {
  const { server, device } = await scene(t);
  await device.write(10, "a");
  device.deliver(server.url);
  await device.delivered();
  process.kill(server.pid(), "SIGSTOP");
  await device.write(50, "a");
  // Longer than an answer is waited for, on a connection that nobody closes.
  await until("the failure", () => device.context.now().status === "degraded", 30_000);
  await device.write(50, "a");
  process.kill(server.pid(), "SIGCONT");
  await device.delivered();
  assertHolds(server, named(device.epoch, 1, 110));
});

test("a server that was emptied is sent again what the journal keeps, also while it is connected", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "a");
  device.deliver(server.url);
  await device.delivered();
  server.cli("FLUSHALL");
  await device.write(1, "a");
  await until("all of it", () => namesIn(server, `box:${stream}`).length === 101, 60_000);
  assertHolds(server, named(device.epoch, 1, 101));
  await device.stop();
  server.cli("FLUSHALL");
  await device.start();
  device.deliver(server.url);
  await until("all of it again", () => namesIn(server, `box:${stream}`).length === 101, 60_000);
  assertHolds(server, named(device.epoch, 1, 101));
});

test("a server that was put back to an earlier state is sent the rest again", async (t) => {
  const { server, device } = await scene(t);
  await device.write(60, "a");
  device.deliver(server.url);
  await device.delivered();
  const copied = server.cli("COPY", "box:readings", "stream-then");
  assert.equal(copied, "1");
  server.cli("COPY", "{box:readings}:holdfast:box:readings", "hash-then");
  await device.write(60, "a");
  await device.delivered();
  await device.stop();
  server.cli("RENAME", "stream-then", "box:readings");
  server.cli("RENAME", "hash-then", "{box:readings}:holdfast:box:readings");
  await device.start();
  await device.write(1, "a");
  device.deliver(server.url);
  await until("all of it", () => namesIn(server, `box:${stream}`).length === 121, 60_000);
  assertHolds(server, named(device.epoch, 1, 121));
});

test("a new journal of the same device goes beside the old one's events", async (t) => {
  const { server, device } = await scene(t);
  await device.write(50, "a");
  device.deliver(server.url);
  await device.delivered();
  const old = device.epoch;
  await device.stop();
  rmSync(device.folder, { recursive: true });
  await device.start();
  await device.write(30, "b");
  device.deliver(server.url);
  await device.delivered();
  assertHolds(server, [...named(old, 1, 50), ...named(device.epoch, 1, 30)]);
});

test("an old image of the card that went on writing offline begins a new epoch: both histories are there", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "a");
  device.deliver(server.url);
  await device.delivered();
  await device.stop();
  const image = device.copy("board-1");
  await device.start();
  await device.write(80, "a");
  device.deliver(server.url);
  await device.delivered();
  const old = device.epoch;
  await device.stop();
  await image.start();
  await image.write(30, "image");
  assert.equal(image.epoch, old, "the journal cannot know it");
  image.deliver(server.url);
  await image.delivered();
  assert.notEqual(image.epoch, old);
  assert.equal(image.journal.identity().parent, old);
  assertHolds(server, [...named(old, 1, 180), ...named(image.epoch, 101, 130)]);
  const lines = server.cli("XRANGE", `box:${stream}`, "-", "+").split("\n");
  assert.equal(lines.filter((line) => line === "image").length, 30);
  assert.deepEqual(await image.gaps(), [
    { stream, from: 101, to: 130, kept: 30, reason: `epoch ${image.epoch} after ${old}` },
  ]);
});

test("an old image whose events end where the server's do is told apart by the digest", async (t) => {
  const { server, device } = await scene(t);
  await device.write(20, "a");
  device.deliver(server.url);
  await device.delivered();
  await device.stop();
  const image = device.copy("board-1");
  await device.start();
  await device.write(30, "a");
  device.deliver(server.url);
  await device.delivered();
  const old = device.epoch;
  await device.stop();
  await image.start();
  await image.write(45, "image");
  image.deliver(server.url);
  await image.delivered();
  assertHolds(server, [...named(old, 1, 50), ...named(image.epoch, 21, 65)]);
});

test("two clones of a card in two boards each deliver their own, and once what both have", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "both");
  device.deliver(server.url);
  await device.delivered();
  await device.write(0, "both");
  await device.stop();
  await device.start();
  await device.write(20, "both");
  await device.stop();
  const clone = device.copy("board-2");
  await device.start();
  await clone.start();
  const shared = device.epoch;
  assert.notEqual(clone.epoch, shared);
  await device.write(30, "a");
  await clone.write(30, "b");
  device.deliver(server.url);
  clone.deliver(server.url);
  await device.delivered();
  await clone.delivered();
  const names = namesIn(server, `box:${stream}`);
  assert.deepEqual(
    names.toSorted(),
    [...named(shared, 1, 150), ...named(clone.epoch, 121, 150)].toSorted(),
  );
});

test("two clones whose boards cannot be told apart part ways as soon as they meet", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "both");
  device.deliver(server.url);
  await device.delivered();
  await device.stop();
  const clone = device.copy(null);
  await device.start();
  await clone.start();
  const shared = device.epoch;
  assert.equal(clone.epoch, shared);
  device.deliver(server.url);
  clone.deliver(server.url);
  await Promise.all([device.write(300, "a"), clone.write(200, "b")]);
  await device.delivered();
  await clone.delivered();
  await device.write(5, "a");
  await clone.write(5, "b");
  await device.delivered();
  await clone.delivered();
  const names = namesIn(server, `box:${stream}`);
  assert.equal(new Set(names).size, names.length, "no name twice");
  const lines = server.cli("XRANGE", `box:${stream}`, "(0-0", "+", "COUNT", "2000").split("\n");
  assert.equal(lines.filter((line) => line === "a").length, 305);
  assert.equal(lines.filter((line) => line === "b").length, 205);
});

test("a replay that is asked for again sends under a new generation of the names, once; without that it is refused", async (t) => {
  const { server, device } = await scene(t);
  await device.write(100, "a");
  device.deliver(server.url);
  await device.delivered();
  await assert.rejects(device.replay(50, false), /--again/);
  for (const [generation, from] of [
    [1, 50],
    [2, 90],
  ] as const) {
    assert.equal(await device.replay(from, true), from);
    const last = `box/${device.epoch}.${generation}/${stream}/${generation === 1 ? 100 : 105}`;
    await until("the replay", () => namesIn(server, `box:${stream}`).at(-1) === last, 60_000);
    await device.stop();
    await device.start();
    device.deliver(server.url);
    if (generation === 1) await device.write(5, "a");
    await device.delivered();
  }
  const { epoch } = device;
  assertHolds(server, [
    ...named(epoch, 1, 100),
    ...named(`${epoch}.1`, 50, 105),
    ...named(`${epoch}.2`, 90, 105),
  ]);
});

test("maxLength bounds the stream, and what was trimmed there is not sent again", async (t) => {
  const { server, device } = await scene(t);
  device.deliver(server.url, { maxLength: 100 });
  for (let round = 0; round < 10; round++) await device.write(100, "a");
  await device.delivered();
  await device.stop();
  await device.start();
  device.deliver(server.url, { maxLength: 100 });
  await device.write(1, "a");
  await device.delivered();
  const names = namesIn(server, `box:${stream}`);
  // Trimmed by whole nodes, of 100 entries each (stream-node-max-entries).
  assert.ok(names.length >= 100 && names.length <= 200, `${names.length}`);
  assert.deepEqual(names, named(device.epoch, 1001 - names.length + 1, 1001));
});

test("a cluster keeps the stream and what is noted of it in one slot", async (t) => {
  const args = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
  const server = await startRedis(tempDir(t), { args });
  t.after(() => server.kill());
  server.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
  await until("the cluster", () => server.cli("CLUSTER", "INFO").includes("cluster_state:ok"));
  const device = await new Device(t, tempDir(t)).start();
  await device.write(20, "a");
  device.deliver(server.url, { mode: "cluster" });
  await device.delivered();
  await device.stop();
  assertHolds(server, named(device.epoch, 1, 20));
  const slot = (key: string): string => server.cli("CLUSTER", "KEYSLOT", key);
  assert.equal(slot("box:readings"), slot("{box:readings}:holdfast:box:readings"));
});

test("sentinels say where the server is", async (t) => {
  const { server, device } = await scene(t);
  const port = await freePort();
  const folder = tempDir(t);
  const config = join(folder, "sentinel.conf");
  const monitor = `sentinel monitor cloud 127.0.0.1 ${server.port} 1`;
  writeFileSync(config, `port ${port}\ndir ${folder}\n${monitor}\n`);
  const sentinel = spawn(serverProgram(), [config, "--sentinel"], { stdio: "ignore" });
  t.after(async () => {
    sentinel.kill("SIGKILL");
    await once(sentinel, "exit");
  });
  await device.write(20, "a");
  device.deliver(`redis://127.0.0.1:${port}`, { mode: "sentinel:cloud" });
  await device.delivered();
  assertHolds(server, named(device.epoch, 1, 20));
});

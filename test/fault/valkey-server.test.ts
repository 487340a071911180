/** A server that is emptied, killed, demoted, full, or says nothing: workers go on by themselves, effects happen once. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { ValkeyBackend } from "../../src/index.ts";
import { startRedis, type RedisServer, type RedisServerOptions } from "../support/redis-server.ts";
import { startLine, type StreamLine, type StreamLinePlan } from "../support/stream-line.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

type Over = Partial<Omit<StreamLinePlan, "backend">>;

async function started(
  t: TestContext,
  over: Over = {},
  options: RedisServerOptions = {},
): Promise<{ server: RedisServer; line: StreamLine; folder: string }> {
  const folder = tempDir(t);
  const server = await startRedis(folder, options);
  t.after(() => server.kill());
  const backend = (): ValkeyBackend => new ValkeyBackend({ url: server.url });
  const line = await startLine(t, { backend, state: "valkey", ...over });
  return { server, line, folder };
}

const losses: Record<string, (topic: string) => string[]> = {
  FLUSHALL: () => ["FLUSHALL"],
  "DEL of the topic": (topic) => ["DEL", topic],
  "XGROUP DESTROY": (topic) => ["XGROUP", "DESTROY", topic, "g"],
};
for (const [loss, command] of Object.entries(losses)) {
  for (const state of ["sqlite", "valkey"] as const) {
    for (const key of [undefined, "key"]) {
      const how = `${state}, ${key === undefined ? "any order" : "by key"}`;
      test(`workers go on after ${loss}, and what is emitted then is dealt with once (${how})`, async (t) => {
        const options = key === undefined ? {} : { key };
        const { server, line } = await started(t, { state, workers: 2, options });
        await line.emit(0, 200);
        assert.deepEqual(await line.all(0, 200), []);
        server.cli(...command(line.topic));
        await line.emit(200, 400);
        assert.deepEqual(await line.all(200, 400), []);
        server.cli(...command(line.topic));
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        await line.emit(400, 500);
        assert.deepEqual(await line.all(400, 500), []);
      });
    }
  }
}

for (const state of ["sqlite", "valkey"] as const) {
  test(`a server that is killed under load and comes back with its file costs nothing (${state})`, async (t) => {
    const { server, line } = await started(t, { state, workers: 2 }, { durable: true });
    const emitting = (async () => {
      for (let n = 0; n < 3_000; n += 100) await line.emit(n, n + 100);
    })();
    for (let turn = 0; turn < 3; turn += 1) {
      await new Promise((resolve) => setTimeout(resolve, 150));
      await server.kill();
      await new Promise((resolve) => setTimeout(resolve, 100));
      await server.start();
    }
    await emitting;
    assert.deepEqual(await line.all(0, 3_000), []);
  });
}

test("a server that comes back empty is worked with like a new one", async (t) => {
  const { server, line, folder } = await started(t, { workers: 2 });
  await line.emit(0, 100);
  await line.all(0, 100);
  await server.kill();
  const emitting = line.emit(100, 200);
  await until("trouble", async () => (await line.trouble()).length === 2);
  rmSync(join(folder, `redis-${server.port}`, "dump.rdb"), { force: true });
  await server.start();
  await emitting;
  assert.deepEqual(await line.all(100, 200), []);
  await until("no trouble", async () => (await line.trouble()).length === 0);
});

test("a server that loads its file is waited for", async (t) => {
  const slow = ["--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024"];
  const { server, line } = await started(t, { workers: 2 }, { args: slow });
  await line.emit(0, 50);
  await line.all(0, 50);
  const fill = "for i = 1, 3000 do redis.call('SET', 'filler:' .. i, string.rep('x', 100)) end";
  server.cli("EVAL", fill, "0");
  server.cli("SAVE");
  await server.kill();
  const starting = server.start();
  await until("loading", () => server.cli("PING").startsWith("LOADING"));
  const emitting = line.emit(50, 100);
  const late = new ValkeyBackend({ url: server.url });
  t.after(() => late.close());
  await late.open();
  assert.equal(await late.length(line.topic), 50);
  await starting;
  await emitting;
  assert.deepEqual(await line.all(50, 100), []);
});

test("a master that is demoted is waited for until it is one again", async (t) => {
  const { server, line, folder } = await started(t, { workers: 2 });
  await line.emit(0, 50);
  await line.all(0, 50);
  const other = await startRedis(folder, { args: ["--replicaof", `127.0.0.1 ${server.port}`] });
  t.after(() => other.kill());
  const isLinked = (replica: RedisServer): boolean =>
    replica.cli("INFO", "replication").includes("master_link_status:up");
  await until("the replica", () => isLinked(other));
  other.cli("REPLICAOF", "NO", "ONE");
  server.cli("REPLICAOF", "127.0.0.1", `${other.port}`);
  await until("the demotion", () => isLinked(server));
  let isStored = false;
  const emitting = line.emit(50, 100).then(() => (isStored = true));
  await until("that it is said", async () =>
    (await line.trouble()).some((trouble) => trouble.includes("READONLY")),
  );
  assert.equal(isStored, false);
  server.cli("REPLICAOF", "NO", "ONE");
  await emitting;
  assert.deepEqual(await line.all(0, 100), []);
});

test("a server out of memory refuses what is emitted and goes on acknowledging; with room again all goes on", async (t) => {
  const { server, line } = await started(t, { workers: 2 });
  await line.emit(0, 50);
  await line.all(0, 50);
  const backend = new ValkeyBackend({ url: server.url });
  t.after(() => backend.close());
  await backend.open();
  const join = (keyField?: string) =>
    backend.join({
      topic: "full",
      group: keyField ?? "g",
      from: "start",
      leaseMs: 2_000,
      ...(keyField !== undefined && { keyField }),
    });
  await backend.append(
    "full",
    Array.from({ length: 6 }, (_, n) => ["n", `${n}`]),
  );
  const [member, keyed] = [await join(), await join("n")];
  server.cli("CONFIG", "SET", "maxmemory", "1");
  await assert.rejects(backend.append("full", [["n", "1"]]), {
    code: "STREAM_UNREACHABLE",
    kind: "transient",
    message: /OOM/,
  });
  // Whatever a worker does to get on, as a member and with keys.
  for (const each of [member, keyed]) {
    const { deliveries } = await each.read(6, 0, new AbortController().signal);
    const [a, b, c, d, e, f] = deliveries.map(({ id }) => id) as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    assert.deepEqual(await each.renew([a, b, c, d, e, f]), []);
    const moved = [{ id: c, topic: "full-dlq", fields: ["n", "2"] }];
    const plain = { done: [a], failed: [{ id: b, failures: 1 }], moved };
    assert.deepEqual(await each.settle(plain), { result: "settled", lost: [] });
    const effects = {
      reads: [],
      writes: [{ space: "s", key: "k", value: Buffer.from("v") }],
      emits: [],
    };
    const unit = { done: [d], failed: [], moved: [], effects };
    assert.deepEqual(await each.settle(unit), { result: "settled", lost: [] });
    const emits = [{ topic: "full-out", fields: ["n", "1"] }];
    const greedy = { ...unit, done: [e], effects: { ...effects, emits } };
    await assert.rejects(each.settle(greedy), { code: "STREAM_UNREACHABLE", message: /OOM/ });
    assert.deepEqual(await each.settle({ ...unit, done: [e] }), { result: "settled", lost: [] });
    await each.reclaim(60_000, 10);
    await each.leave();
    assert.equal((await (await join(each === keyed ? "n" : undefined)).lag()).pending, 2);
    assert.equal(typeof f, "string");
  }
  let isStored = false;
  const emitting = line.emit(50, 100).then(() => (isStored = true));
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(isStored, false);
  server.cli("CONFIG", "SET", "maxmemory", "0");
  await emitting;
  assert.deepEqual(await line.all(0, 100), []);
});

test("a group that has read all lags behind by nothing, also after its server has loaded its file", async (t) => {
  const server = await startRedis(tempDir(t), { durable: true });
  t.after(() => server.kill());
  const backend = new ValkeyBackend({ url: server.url });
  await backend.open();
  t.after(() => backend.close());
  const member = await backend.join({
    topic: "t",
    group: "g",
    from: "start",
    leaseMs: 5_000,
    keyField: "n",
  });
  const numbers = (count: number) => Array.from({ length: count }, (_, n) => ["n", `${n}`]);
  await backend.append("t", numbers(20));
  const never = new AbortController().signal;
  const first = await member.read(5, 0, never);
  server.cli("BGREWRITEAOF");
  await until("its file to be written anew", () =>
    /aof_rewrite_in_progress:0\s+aof_rewrite_scheduled:0/.test(server.cli("INFO", "persistence")),
  );
  const rest = await member.read(20, 0, never);
  assert.equal(first.deliveries.length + rest.deliveries.length, 20);
  await server.kill();
  await server.start();
  await until("its answer", async () => (await member.lag().catch(() => null)) !== null);
  assert.deepEqual(await member.lag(), { waiting: 0, pending: 20 });
});

test("a server that pauses its clients is waited for", async (t) => {
  const { server, line } = await started(t, { workers: 2 });
  await line.emit(0, 50);
  server.cli("CLIENT", "PAUSE", "4000");
  await line.emit(50, 100);
  assert.deepEqual(await line.all(0, 100), []);
});

test("a server that hangs is given up for a new connection, and worked with when it goes on", async (t) => {
  const { server, line } = await started(t, { workers: 2 });
  await line.emit(0, 50);
  await line.all(0, 50);
  process.kill(server.pid(), "SIGSTOP");
  t.after(() => server.pid() > 0 && process.kill(server.pid(), "SIGCONT"));
  const emitting = line.emit(50, 100);
  // Nothing answers for 15 s: only then is it known.
  await until("that it is said", async () => (await line.trouble()).length === 2, 30_000);
  process.kill(server.pid(), "SIGCONT");
  await emitting;
  assert.deepEqual(await line.all(0, 100), []);
});

/** A cluster whose slots move and whose masters die, under load: workers go on by themselves, effects happen once. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { ValkeyBackend } from "../../src/index.ts";
import { startCluster, type RedisCluster } from "../support/redis-cluster.ts";
import type { RedisServer } from "../support/redis-server.ts";
import { startLine, type StreamLine } from "../support/stream-line.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

async function started(
  t: TestContext,
  state: "sqlite" | "valkey",
  options: { key?: string } = {},
): Promise<{ cluster: RedisCluster; line: StreamLine }> {
  const cluster = await startCluster(tempDir(t), { durable: true });
  t.after(() => cluster.stop());
  const backend = (): ValkeyBackend => new ValkeyBackend({ url: cluster.url, mode: "cluster" });
  const line = await startLine(t, { backend, state, workers: 2, options });
  return { cluster, line };
}

/** Key by key, as `redis-cli --cluster reshard` does it, with time between for what runs meanwhile. */
async function moveSlot(cluster: RedisCluster, slot: number, from: RedisServer, to: RedisServer) {
  const setSlot = (node: RedisServer, ...words: string[]): void => {
    assert.equal(node.cli("CLUSTER", "SETSLOT", `${slot}`, ...words), "OK");
  };
  setSlot(to, "IMPORTING", cluster.idOf(from));
  setSlot(from, "MIGRATING", cluster.idOf(to));
  for (;;) {
    const [key] = from.cli("CLUSTER", "GETKEYSINSLOT", `${slot}`, "1").split("\n");
    if (key === undefined || key === "") break;
    const moved = from.cli("MIGRATE", "127.0.0.1", `${to.port}`, key, "0", "5000");
    assert.match(moved, /^(OK|NOKEY)$/);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  for (const node of [to, from, ...cluster.nodes]) setSlot(node, "NODE", cluster.idOf(to));
}

for (const state of ["sqlite", "valkey"] as const) {
  for (const key of [undefined, "key"]) {
    const how = `${state}, ${key === undefined ? "any order" : "by key"}`;
    test(`a slot that moves from node to node under load costs nothing (${how})`, async (t) => {
      const { cluster, line } = await started(t, state, key === undefined ? {} : { key });
      await line.emit(0, 100);
      let next = 100;
      const moved = new AbortController();
      const emitting = (async () => {
        for (; !moved.signal.aborted; next += 20) await line.emit(next, next + 20);
      })();
      const slot = cluster.slotOf(line.topic);
      for (let turn = 0; turn < 4; turn += 1) {
        const from = cluster.ownerOf(line.topic);
        const to = cluster.nodes[(cluster.nodes.indexOf(from) + 1) % 3] as RedisServer;
        await moveSlot(cluster, slot, from, to);
        await until("the new owner", () => cluster.ownerOf(line.topic) === to);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      moved.abort();
      await emitting;
      t.diagnostic(`${next} events`);
      assert.deepEqual(await line.all(0, next), []);
    });
  }

  test(`a master of a cluster that is killed under load and comes back costs nothing (${state})`, async (t) => {
    const { cluster, line } = await started(t, state);
    await line.emit(0, 100);
    const emitting = (async () => {
      for (let n = 100; n < 2_000; n += 100) await line.emit(n, n + 100);
    })();
    for (let turn = 0; turn < 2; turn += 1) {
      const node = cluster.ownerOf(line.topic);
      await new Promise((resolve) => setTimeout(resolve, 150));
      await node.kill();
      // Longer than the others take to say that the cluster is down.
      const others = cluster.nodes.filter((each) => each !== node);
      await until("that it is missed", () =>
        others.every((each) => each.cli("CLUSTER", "INFO").startsWith("cluster_state:fail")),
      );
      await node.start();
      await cluster.healthy();
    }
    await emitting;
    assert.deepEqual(await line.all(0, 2_000), []);
  });
}

/** One suite for every store of library workers. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { test, type TestContext } from "node:test";
import Database from "better-sqlite3";
import { MemoryStore } from "../../src/state/memory.ts";
import { rangesMax, scopesMax } from "../../src/state/scope-positions.ts";
import { RocksDbStore } from "../../src/state/rocksdb.ts";
import { SqliteFile } from "../../src/state/sqlite-file.ts";
import { SqliteStore } from "../../src/state/sqlite.ts";
import type { WorkerStore, WorkerUnit } from "../../src/state/state.ts";
import { ValkeyBackend } from "../../src/stream/valkey.ts";
import { startRedis } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text);
const unit = (over: Partial<WorkerUnit>): WorkerUnit => ({
  scope: "s",
  done: [],
  reads: [],
  writes: [],
  emits: [],
  ...over,
});

const stores: Record<string, (t: TestContext) => WorkerStore> = {
  SqliteStore: (t) => new SqliteStore({ path: join(tempDir(t), "state.db") }),
  RocksDbStore: (t) => new RocksDbStore({ path: join(tempDir(t), "state") }),
  MemoryStore: () => new MemoryStore({ wallMs: () => Date.now() }),
};

for (const [name, create] of Object.entries(stores)) {
  const opened = async (t: TestContext): Promise<WorkerStore> => {
    const store = create(t);
    await store.open();
    t.after(() => store.close());
    return store;
  };

  test(`${name}.commit() makes writes, positions and emits readable together`, async (t) => {
    const store = await opened(t);
    const writes = [{ space: "a", key: "k", value: bytes("1") }];
    const emits = [{ topic: "out", fields: ["n", bytes("x")] }];
    assert.deepEqual(await store.commit(unit({ done: ["5-1"], writes, emits })), {
      result: "committed",
    });
    assert.equal(String(Buffer.from((await store.get("a", "k")) ?? [])), "1");
    assert.equal(await store.get("b", "k"), null);
    assert.deepEqual([...(await store.isDone("s", ["5-1", "5-2"]))], ["5-1"]);
    const [row] = await store.readOutbox(0, 10);
    assert.equal(row?.topic, "out");
    assert.deepEqual(
      row?.fields.map((each) => String(Buffer.from(each as Uint8Array))),
      ["n", "x"],
    );
  });

  test(`${name}.commit() does nothing of a unit that names what was dealt with before`, async (t) => {
    const store = await opened(t);
    await store.commit(unit({ done: ["5-1", "5-2"] }));
    const writes = [{ space: "a", key: "k", value: bytes("2") }];
    const told = await store.commit(unit({ done: ["5-2", "5-3"], writes }));
    assert.deepEqual(told, { result: "repeated", ids: ["5-2"] });
    assert.equal(await store.get("a", "k"), null);
    assert.deepEqual([...(await store.isDone("s", ["5-3"]))], []);
  });

  test(`${name}.commit() does nothing of a unit that read what another has changed`, async (t) => {
    const store = await opened(t);
    const write = (value: string) => [{ space: "a", key: "k", value: bytes(value) }];
    await store.commit(unit({ done: ["1-0"], writes: write("1") }));
    const stale = [{ space: "a", key: "k", value: null }];
    assert.equal(
      (await store.commit(unit({ done: ["2-0"], reads: stale, writes: write("2") }))).result,
      "conflict",
    );
    const right = [{ space: "a", key: "k", value: bytes("1") }];
    assert.equal(
      (await store.commit(unit({ done: ["2-0"], reads: right, writes: write("2") }))).result,
      "committed",
    );
  });

  test(`${name} has an event that failed come back while those behind it are dealt with`, async (t) => {
    const store = await opened(t);
    await store.commit(unit({ done: ["1-0", "3-0"] }));
    assert.deepEqual([...(await store.isDone("s", ["1-0", "2-0", "3-0"]))], ["1-0", "3-0"]);
    assert.equal((await store.commit(unit({ done: ["2-0"] }))).result, "committed");
  });

  test(`${name} compares IDs as numbers`, async (t) => {
    const store = await opened(t);
    await store.commit(unit({ done: ["9-2"] }));
    await store.compact("s", { lastDelivered: "9-10", pending: ["9-9"] });
    const ids = ["9-2", "9-3", "9-9", "9-10", "9-11", "10-0", "8-99"];
    assert.deepEqual([...(await store.isDone("s", ids))], ["9-2", "9-3", "9-10", "8-99"]);
    const large = "18446744073709551615-18446744073709551615";
    assert.equal((await store.commit(unit({ done: [large] }))).result, "committed");
    assert.equal((await store.commit(unit({ done: [large] }))).result, "repeated");
  });

  test(`${name} begins a new incarnation with no positions, however old its IDs`, async (t) => {
    const store = await opened(t);
    await store.compact("one", { lastDelivered: "2000-0", pending: [] });
    assert.equal(
      (await store.commit(unit({ scope: "two", done: ["1000-0"] }))).result,
      "committed",
    );
  });

  test(`${name}.compact() never marks what is pending, and keeps what was dealt with beyond`, async (t) => {
    const store = await opened(t);
    await store.commit(unit({ done: ["5-0", "7-0", "20-0"] }));
    await store.compact("s", { lastDelivered: "10-0", pending: ["4-0", "7-0", "9-0"] });
    const ids = ["1-0", "4-0", "5-0", "7-0", "8-0", "9-0", "10-0", "15-0", "20-0"];
    const done = ["1-0", "5-0", "7-0", "8-0", "10-0", "20-0"];
    assert.deepEqual([...(await store.isDone("s", ids))], done);
  });

  test(`${name}.rewind() has what lies from an ID on dealt with again, whatever a late worker folds or commits`, async (t) => {
    const store = await opened(t);
    const ids = ["3-0", "4-9", "5-0", "9-0"];
    await store.compact("s", { lastDelivered: "10-0", pending: ["3-0"] });
    await store.rewind("s", "5-0", "next");
    assert.deepEqual([...(await store.isDone("next", ids))], ["4-9"]);
    // It has not heard of the replay.
    await store.commit(unit({ done: ["3-0", "11-0"] }));
    await store.compact("s", { lastDelivered: "20-0", pending: [] });
    assert.deepEqual([...(await store.isDone("next", [...ids, "11-0"]))], ["3-0", "4-9"]);
    assert.deepEqual(await store.commit(unit({ scope: "next", done: ["3-0"] })), {
      result: "repeated",
      ids: ["3-0"],
    });
    await store.commit(unit({ scope: "next", done: ["5-0"] }));
    await store.rewind("next", "9-0", "last");
    assert.deepEqual([...(await store.isDone("last", ids))], ["3-0", "4-9", "5-0"]);
  });

  test(`${name} forgets a value whose end has come`, async (t) => {
    const store = await opened(t);
    const writes = [
      { space: "a", key: "gone", value: bytes("1"), expiresAt: Date.now() - 1 },
      { space: "a", key: "kept", value: bytes("1"), expiresAt: Date.now() + 60_000 },
    ];
    await store.commit(unit({ writes }));
    assert.equal(await store.get("a", "gone"), null);
    assert.notEqual(await store.get("a", "kept"), null);
    const reads = [{ space: "a", key: "gone", value: null }];
    assert.equal((await store.commit(unit({ reads }))).result, "committed");
  });

  test(`${name} numbers its outbox by commits and never twice`, async (t) => {
    const store = await opened(t);
    const emit = (topic: string) => unit({ emits: [{ topic, fields: ["a", "1"] }] });
    await store.commit(emit("one"));
    await store.commit(emit("two"));
    const first = await store.readOutbox(0, 10);
    assert.deepEqual(
      first.map(({ topic }) => topic),
      ["one", "two"],
    );
    await store.releaseOutbox(first.at(-1)?.n ?? 0);
    await store.commit(emit("three"));
    const [third] = await store.readOutbox(0, 10);
    assert.ok((third?.n ?? 0) > (first.at(-1)?.n ?? 0));
  });
}

test("SqliteStore keeps everything over a reopening, and its identity", async (t) => {
  const path = join(tempDir(t), "folder", "state.db");
  const first = new SqliteStore({ path });
  await first.open();
  await first.commit(
    unit({ done: ["1-0"], writes: [{ space: "a", key: "k", value: bytes("1") }] }),
  );
  const { id } = first;
  await first.close();
  await first.close();
  const second = new SqliteStore({ path });
  await second.open();
  assert.equal(second.id, id);
  assert.deepEqual([...(await second.isDone("s", ["1-0"]))], ["1-0"]);
  await second.close();
  await assert.rejects(() => second.get("a", "k"), { code: "STATE_UNAVAILABLE" });
});

test("SqliteStore leaves another program's file, and a newer one, alone", async (t) => {
  const folder = tempDir(t);
  const text = join(folder, "text.db");
  writeFileSync(text, "this is no database, and long enough to be looked at\n".repeat(40));
  const other = join(folder, "other.db");
  const db = new Database(other);
  db.exec("CREATE TABLE theirs (a)");
  db.close();
  const newer = join(folder, "newer.db");
  new SqliteFile({ path: newer, durability: "crash" }).close();
  const made = new Database(newer);
  made.pragma("user_version = 99");
  made.close();
  for (const path of [text, other, newer]) {
    const before = readFileSync(path);
    await assert.rejects(() => new SqliteStore({ path }).open(), { code: "STATE_FOREIGN" }, path);
    assert.deepEqual(readFileSync(path), before, path);
  }
});

test("SqliteFile is made once by workers that all begin at the same moment", async (t) => {
  const [folder, rounds, threads] = [tempDir(t), 150, 2];
  const arrived = new Int32Array(new SharedArrayBuffer(4));
  const program = new URL("../support/openings-thread.ts", import.meta.url);
  const workerData = { folder, rounds, threads, arrived };
  const seen = await Promise.all(
    Array.from({ length: threads }, async () => {
      const [ids] = (await once(new Worker(program, { workerData }), "message")) as [string[]];
      return ids;
    }),
  );
  const failed = seen.flat().filter((id) => id.includes("Error"));
  assert.deepEqual(failed, []);
  assert.deepEqual(seen[0], seen[1]);
  assert.equal(new Set(seen[0]).size, rounds);
});

test("SqliteFile.commitAll() refuses more positions than it may hold before a compaction, and goes on after it", (t) => {
  const file = new SqliteFile({ path: join(tempDir(t), "state.db"), durability: "crash" });
  t.after(() => file.close());
  const each = 10_000;
  const ids = (at: number): string[] => Array.from({ length: each }, (_, n) => `${at}-${n}`);
  for (let at = 1; at <= rangesMax / each; at += 1) file.commitAll([unit({ done: ids(at) })], 0);
  assert.throws(() => file.commitAll([unit({ done: ["99-0"] })], 0), { code: "STATE_UNAVAILABLE" });
  file.compact("s", { lastDelivered: "90-0", pending: [] });
  assert.deepEqual(file.commitAll([unit({ done: ["99-0"] })], 0), [{ result: "committed" }]);
});

test("SqliteFile forgets the scopes that were used the longest ago", (t) => {
  const file = new SqliteFile({ path: join(tempDir(t), "state.db"), durability: "crash" });
  t.after(() => file.close());
  for (let at = 0; at <= scopesMax; at += 1) {
    file.commitAll([unit({ scope: `s${at}`, done: ["1-0"] })], 0);
    file.compact("s1", { lastDelivered: "1-0", pending: [] });
  }
  const has = (scope: string): boolean => file.isDone(scope, ["1-0"]).size === 1;
  assert.deepEqual([has("s0"), has("s1"), has(`s${scopesMax}`)], [false, true, true]);
});

/** State beside the stream has no store of its own: it is a part of what `settle` does. */
test("ValkeyBackend keeps state with what is settled: values, ends, and nothing of a refused unit", async (t) => {
  const server = await startRedis(tempDir(t));
  t.after(() => server.stop());
  const backend = new ValkeyBackend({ url: server.url });
  await backend.open();
  t.after(() => backend.close());
  const member = await backend.join({ topic: "t", group: "g", from: "start", leaseMs: 5_000 });
  await backend.append(
    "t",
    [1, 2, 3, 4, 5].map((n) => ["n", String(n)]),
  );
  const read = await member.read(5, 0, new AbortController().signal);
  const ids = read.deliveries.map(({ id }) => id);
  const settle = async (at: number, reads: WorkerUnit["reads"], writes: WorkerUnit["writes"]) =>
    (
      await member.settle({
        done: [ids[at] ?? ""],
        failed: [],
        moved: [],
        effects: { reads, writes, emits: [{ topic: "out", fields: ["n", String(at)] }] },
      })
    ).result;
  const write = (key: string, value: string | null, expiresAt?: number) => ({
    space: "g:t",
    key,
    value: value === null ? null : bytes(value),
    ...(expiresAt !== undefined && { expiresAt }),
  });
  const value = async (key: string): Promise<string | null> => {
    const found = await member.readState("g:t", key);
    return found === null ? null : String(Buffer.from(found));
  };
  const binary = Buffer.from([0, 58, 255, 10]);
  const all = [
    write("k", "1"),
    write("gone", "x", Date.now() - 1),
    write("kept", "x", Date.now() + 60_000),
    { space: "g:t", key: "b", value: binary },
  ];
  assert.equal(await settle(0, [{ space: "g:t", key: "k", value: null }], all), "settled");
  assert.deepEqual([await value("k"), await value("gone"), await value("kept")], ["1", null, "x"]);
  assert.deepEqual(Buffer.from((await member.readState("g:t", "b")) ?? []), binary);
  // What it read has changed; its entry is settled; another's read holds.
  const stale = [{ space: "g:t", key: "k", value: null }];
  assert.equal(await settle(1, stale, [write("k", "2")]), "refused");
  assert.equal(await settle(0, [], [write("k", "3")]), "refused");
  assert.equal(await value("k"), "1");
  const right = [{ space: "g:t", key: "k", value: bytes("1") }];
  assert.equal(await settle(1, right, [write("k", null)]), "settled");
  assert.equal(await value("k"), null);
  const expired = [{ space: "g:t", key: "gone", value: null }];
  assert.equal(await settle(2, expired, [write("gone", "y")]), "settled");
  assert.equal(await value("gone"), "y");
  assert.equal(await backend.length("out"), 3);
});

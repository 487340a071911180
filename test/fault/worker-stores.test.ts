/** What a worker's store promises when it is killed, cut short, damaged, shared or another program's. */
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import Database from "better-sqlite3";
import { HoldfastError, MemoryBackend, Stream } from "../../src/index.ts";
import { RocksDbStore } from "../../src/state/rocksdb.ts";
import { SqliteStore } from "../../src/state/sqlite.ts";
import type { WorkerStore } from "../../src/state/state.ts";
import { tempDir } from "../support/temp-dir.ts";

const stores: Record<string, (path: string) => WorkerStore> = {
  SqliteStore: (path) => new SqliteStore({ path }),
  RocksDbStore: (path) => new RocksDbStore({ path }),
};

function child(t: TestContext, ...args: readonly string[]): ChildProcess {
  const started = spawn(process.execPath, ["test/support/store-child.ts", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => started.kill("SIGKILL"));
  return started;
}

/** Lines as they come; ends when `isEnough`. */
async function linesUntil(
  running: ChildProcess,
  isEnough: (line: string) => boolean,
): Promise<string[]> {
  assert.ok(running.stdout !== null);
  const lines: string[] = [];
  for await (const line of createInterface({ input: running.stdout })) {
    lines.push(line);
    if (isEnough(line)) break;
  }
  return lines;
}

async function opened(t: TestContext, name: string, path: string): Promise<WorkerStore> {
  const store = stores[name]?.(path);
  assert.ok(store !== undefined);
  await store.open();
  t.after(() => store.close());
  return store;
}

const numberOf = (value: Uint8Array | null): number => Number(Buffer.from(value ?? []).toString());

/** State, positions and outbox tell of the same last unit, which is not before `told`. */
async function checkUnits(store: WorkerStore, told: number): Promise<number> {
  const last = numberOf(await store.get("p", "last"));
  assert.ok(last >= told, `unit ${told} was told, ${last} is there`);
  const ids = Array.from({ length: last + 2 }, (_, n) => `${n + 1}-0`);
  assert.equal((await store.isDone("s", ids)).size, last);
  const rows = await store.readOutbox(0, last + 10);
  assert.deepEqual(
    rows.map(({ fields }) => numberOf(fields[1] as Uint8Array)),
    Array.from({ length: last }, (_, n) => n + 1),
  );
  return last;
}

/** The file that a store's commits are written to. */
function logOf(name: string, path: string): string {
  if (name === "SqliteStore") return `${path}-wal`;
  const logs = readdirSync(path).filter((file) => file.endsWith(".log"));
  const log = logs.find((file) => statSync(join(path, file)).size > 0);
  assert.ok(log !== undefined, "RocksDB has no log");
  return join(path, log);
}

for (const name of Object.keys(stores)) {
  test(`${name} has after kill -9 what it told, and state, positions and outbox of the same units`, async (t) => {
    const path = join(tempDir(t), "state");
    let told = 0;
    for (const more of [30, 75, 8]) {
      // Each begins at 1: what is dealt with is refused to it, and it goes on behind that.
      const running = child(t, name, path, "units");
      const lines = await linesUntil(running, (line) => Number(line) >= told + more);
      running.kill("SIGKILL");
      await once(running, "exit");
      const store = stores[name]?.(path) as WorkerStore;
      await store.open();
      told = await checkUnits(store, Number(lines.at(-1)));
      await store.close();
    }
  });

  test(`${name} takes a log that is cut short as far as it goes, in whole units`, async (t) => {
    const path = join(tempDir(t), "state");
    const running = child(t, name, path, "units");
    await linesUntil(running, (line) => line === "40");
    running.kill("SIGKILL");
    await once(running, "exit");
    const log = logOf(name, path);
    truncateSync(log, statSync(log).size - 7);
    const store = await opened(t, name, path);
    const last = await checkUnits(store, 30);
    const writes = [{ space: "p", key: "last", value: Buffer.from(String(last + 1)) }];
    const unit = { scope: "s", done: [`${last + 1}-0`], reads: [], writes, emits: [] };
    assert.deepEqual(await store.commit(unit), { result: "committed" });
  });

  test(`${name} refuses what is damaged, and says what to do`, async (t) => {
    const path = join(tempDir(t), "state");
    const first = await opened(t, name, path);
    const value = Buffer.alloc(60_000, 1);
    for (let n = 1; n < 40; n += 1) {
      const writes = [{ space: "p", key: `k${n}`, value }];
      await first.commit({ scope: "s", done: [`${n}-0`], reads: [], writes, emits: [] });
    }
    await first.close();
    const file = name === "SqliteStore" ? path : logOf(name, path);
    overwrite(file, 8192, statSync(file).size - 16_384);
    const second = stores[name]?.(path) as WorkerStore;
    t.after(() => second.close());
    const use = async (): Promise<void> => {
      await second.open();
      for (let n = 1; n < 40; n += 1) await second.get("p", `k${n}`);
    };
    await assert.rejects(use(), (error: Error & { code?: string; hint?: string }) => {
      assert.equal(error.code, "STATE_FOREIGN");
      assert.ok(error.message.includes(path), error.message);
      return true;
    });
  });
}

function overwrite(file: string, from: number, length: number): void {
  const handle = openSync(file, "r+");
  writeSync(handle, Buffer.alloc(length, 0xa5), 0, length, from);
  closeSync(handle);
}

test("SqliteStore loses no change of several processes that share its file", async (t) => {
  const path = join(tempDir(t), "state.db");
  const running = Array.from({ length: 3 }, () => child(t, "SqliteStore", path, "add", "60"));
  const codes = await Promise.all(running.map(async (each) => (await once(each, "exit"))[0]));
  assert.deepEqual(codes, [0, 0, 0]);
  const store = await opened(t, "SqliteStore", path);
  assert.equal(numberOf(await store.get("p", "sum")), 180);
});

test("SqliteStore waits for another process's transaction, and says so when that takes too long", async (t) => {
  const path = join(tempDir(t), "state.db");
  const store = await opened(t, "SqliteStore", path);
  const unit = (n: number) => ({ scope: "s", done: [`${n}-0`], reads: [], writes: [], emits: [] });
  await store.commit(unit(1));
  const other = new Database(path);
  t.after(() => other.close());
  other.exec("BEGIN IMMEDIATE");
  const waiting = store.commit(unit(2));
  setTimeout(() => other.exec("COMMIT"), 300);
  assert.deepEqual(await waiting, { result: "committed" });
  other.exec("BEGIN IMMEDIATE");
  await assert.rejects(store.commit(unit(3)), { code: "STATE_UNAVAILABLE", kind: "transient" });
  other.exec("COMMIT");
  assert.deepEqual(await store.commit(unit(3)), { result: "committed" });
});

test("RocksDbStore is refused to a second worker, and free again when the first is killed", async (t) => {
  const path = join(tempDir(t), "state");
  const running = child(t, "RocksDbStore", path, "hold");
  await linesUntil(running, (line) => line === "open");
  await assert.rejects(new RocksDbStore({ path }).open(), {
    code: "STATE_LOCKED",
    message: `Cannot open ${path} for state: another worker has it open`,
  });
  running.kill("SIGKILL");
  await once(running, "exit");
  const store = await opened(t, "RocksDbStore", path);
  await assert.rejects(new RocksDbStore({ path }).open(), { code: "STATE_LOCKED" });
  assert.equal(await store.get("p", "k"), null);
});

test("RocksDbStore leaves another program's folder, a file, and a newer format alone", async (t) => {
  const folder = tempDir(t);
  const theirs = join(folder, "theirs");
  mkdirSync(theirs);
  writeFileSync(join(theirs, "notes.txt"), "mine");
  const file = join(folder, "file");
  writeFileSync(file, "mine");
  const newer = join(folder, "newer");
  await (await opened(t, "RocksDbStore", newer)).close();
  const { default: RocksDB } = (await import(
    // @ts-expect-error The package comes without types.
    "rocksdb-native"
  )) as { default: new (path: string) => Writable };
  const writable = new RocksDB(newer);
  await writable.put("m", JSON.stringify({ format: 2, id: "x" }));
  await writable.close();
  const other = join(folder, "other");
  const othersOwn = new RocksDB(other);
  await othersOwn.put("a", "b");
  await othersOwn.close();
  for (const path of [theirs, file, newer, other]) {
    await assert.rejects(new RocksDbStore({ path }).open(), { code: "STATE_FOREIGN" }, path);
  }
  assert.deepEqual(readdirSync(theirs), ["notes.txt"]);
  assert.equal(readFileSync(file, "utf8"), "mine");
});

interface Writable {
  put(key: string, value: string): Promise<void>;
  close(): Promise<void>;
}

test("RocksDbStore keeps everything over a reopening, and its identity", async (t) => {
  const path = join(tempDir(t), "folder", "state");
  const first = await opened(t, "RocksDbStore", path);
  const writes = [{ space: "a", key: "k", value: Buffer.from("1") }];
  const emits = [{ topic: "out", fields: ["a", "1"] }];
  await first.commit({ scope: "s", done: ["1-0", "3-0"], reads: [], writes, emits });
  await first.releaseOutbox(1);
  const { id } = first;
  await first.close();
  await first.close();
  const second = await opened(t, "RocksDbStore", path);
  assert.equal(second.id, id);
  assert.deepEqual([...(await second.isDone("s", ["1-0", "2-0", "3-0"]))], ["1-0", "3-0"]);
  await second.commit({ scope: "s", done: [], reads: [], writes: [], emits });
  assert.deepEqual(
    (await second.readOutbox(0, 10)).map(({ n }) => n),
    [2],
  );
  await second.close();
  await assert.rejects(second.get("a", "k"), { code: "STATE_UNAVAILABLE" });
});

test("RocksDbStore syncs its log before it tells, and not under durability crash", (t) => {
  for (const durability of ["power-loss", "crash"]) {
    const path = join(tempDir(t), "state");
    const script = `
      import { RocksDbStore } from "./src/state/rocksdb.ts";
      const store = new RocksDbStore({ path: ${JSON.stringify(path)}, durability: "${durability}" });
      await store.open();
      process.stderr.write("begins\\n");
      const writes = [{ space: "a", key: "k", value: Buffer.from("1") }];
      await store.commit({ scope: "s", done: ["1-0"], reads: [], writes, emits: [] });
      process.stderr.write("told\\n");
      process.exit(0);`;
    const traced = spawnSync(
      "strace",
      ["-f", "-y", "-e", "trace=fdatasync,fsync,write", process.execPath, "-e", script],
      { encoding: "utf8" },
    );
    const between = /"begins\\n"[\s\S]*"told\\n"/.exec(traced.stderr)?.[0] ?? "";
    assert.notEqual(between, "", traced.stderr.slice(-2_000));
    assert.equal(/fdatasync\(\d+<[^>]*\.log>/.test(between), durability === "power-loss");
  }
});

test("RocksDbStore names the package where it is not installed", (t) => {
  const script = `
    import { registerHooks } from "node:module";
    registerHooks({
      resolve(name, context, next) {
        return next(name === "rocksdb-native" ? "not-installed-at-all" : name, context);
      },
    });
    const { RocksDbStore } = await import("./src/index.ts");
    const told = await new RocksDbStore({ path: ${JSON.stringify(join(tempDir(t), "s"))} }).open().catch((error) => error);
    process.stdout.write(told.code + " " + told.message);`;
  const { stdout } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
  assert.equal(
    stdout,
    "STATE_PACKAGE RocksDbStore needs a package of its own: npm install rocksdb-native@3.18.1",
  );
});

test("importing the library loads no store's package", () => {
  const script = `
    import { registerHooks } from "node:module";
    const loaded = [];
    registerHooks({ resolve(name, context, next) { loaded.push(name); return next(name, context); } });
    await import("./src/index.ts");
    process.stdout.write(loaded.filter((name) => /rocksdb-native|sqlite3|iovalkey$/.test(name)).join());`;
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
  assert.equal(stdout, "", stderr);
});

test("start() tells of a store that cannot be opened, and no event pays for it", async (t) => {
  const folder = tempDir(t);
  writeFileSync(join(folder, "notes.txt"), "mine");
  const backend = new MemoryBackend();
  const stream = new Stream({ topic: "t", backend, state: new RocksDbStore({ path: folder }) });
  t.after(() => stream.stop());
  stream.subscribe(async (_event, context) => context.state.put("k", 1));
  await stream.emit({ n: 1 });
  await assert.rejects(stream.start(), { code: "STATE_FOREIGN" });
  assert.equal(await stream.deadLetters().count(), 0);
});

test("Stream ends, and makes no dead letters, when its store turns out to be damaged", async (t) => {
  const backend = new MemoryBackend();
  const path = join(tempDir(t), "state.db");
  const state = new SqliteStore({ path });
  state.get = () =>
    state.open().then(() => Promise.reject(new HoldfastError("STATE_FOREIGN", "It is damaged")));
  const stream = new Stream({ topic: "t", backend, state, retry: { attempts: 1 } });
  t.after(() => stream.stop());
  stream.subscribe(async (_event, context) => void (await context.state.get("k")));
  await stream.emit({ n: 1 });
  await assert.rejects(stream.runForever(), { code: "STATE_FOREIGN" });
  assert.equal(await backend.length("t-dlq"), 0);
});

test("SqliteStore gives a file up that another process holds for longer than a commit may take", async (t) => {
  const path = join(tempDir(t), "state.db");
  const holder = new Database(path);
  t.after(() => holder.close());
  holder.exec("BEGIN IMMEDIATE");
  const began = performance.now();
  await assert.rejects(new SqliteStore({ path }).open(), { code: "STATE_UNAVAILABLE" });
  assert.ok(performance.now() - began < 30_000, `${performance.now() - began} ms`);
});

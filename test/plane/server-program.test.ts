import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  commandLine,
  findServer,
  isAlive,
  processMark,
  serverSocket,
} from "../../src/plane/server-program.ts";
import { tempDir } from "../support/temp-dir.ts";

test("findServer() takes valkey-server before redis-server, and only what can be run", (t) => {
  const [first, second] = [tempDir(t), tempDir(t)];
  const path = `${first}:relative::${second}`;
  assert.equal(findServer(path), null);
  writeFileSync(join(first, "redis-server"), "", { mode: 0o755 });
  writeFileSync(join(second, "valkey-server"), "", { mode: 0o644 });
  assert.equal(findServer(path), join(first, "redis-server"));
  chmodSync(join(second, "valkey-server"), 0o755);
  assert.equal(findServer(path), join(second, "valkey-server"));
});

test("serverSocket() is in the service's folder, else the user's, else beside the journal", (t) => {
  const kept = { ...process.env };
  t.after(() => (process.env = kept));
  const usual = "/home/u/.local/state/holdfast/journal.db";
  delete process.env["RUNTIME_DIRECTORY"];
  delete process.env["XDG_RUNTIME_DIR"];
  assert.equal(serverSocket("/data/journal.db", usual), "/data/valkey.sock");
  process.env["XDG_RUNTIME_DIR"] = "/run/user/7";
  assert.equal(serverSocket(usual, usual), "/run/user/7/holdfast/valkey.sock");
  const other = serverSocket("/data/journal.db", usual);
  assert.match(other, /^\/run\/user\/7\/holdfast\/valkey-[0-9a-f]{8}\.sock$/);
  assert.notEqual(serverSocket("/other/journal.db", usual), other);
  process.env["RUNTIME_DIRECTORY"] = "/run/holdfast:/run/more";
  assert.equal(serverSocket("/data/journal.db", usual), "/run/holdfast/valkey.sock");
});

test("isAlive() knows a process from a later one with its number", async () => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const mark = processMark(child.pid ?? 0);
  assert.ok(mark !== null);
  assert.equal(isAlive(mark), true);
  assert.equal(isAlive({ ...mark, started: "1" }), false);
  assert.match(commandLine(mark.pid), /^sleep 60 /);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal(isAlive(mark), false);
  assert.equal(commandLine(mark.pid), "");
});

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { bind, isLocal, parseListen } from "../../src/host/listen.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

function server(t: TestContext): Server {
  const made = createServer();
  t.after(() => made.listening && made.close());
  return made;
}

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof HoldfastError && error.code === "LISTEN_FAILED" && pattern.test(error.message);

test("parseListen() knows IPv4, IPv6, names and sockets", () => {
  assert.deepEqual(parseListen("127.0.0.1:8000"), { kind: "tcp", host: "127.0.0.1", port: 8000 });
  assert.deepEqual(parseListen("[::1]:8000"), { kind: "tcp", host: "::1", port: 8000 });
  assert.deepEqual(parseListen("localhost:0"), { kind: "tcp", host: "localhost", port: 0 });
  assert.deepEqual(parseListen("unix:/run/x.sock"), { kind: "unix", path: "/run/x.sock" });
  for (const wrong of ["8000", "::1:8000", "unix:x.sock", "127.0.0.1:99999", "", "a b:1"]) {
    assert.throws(() => parseListen(wrong), refused(/not an address/), wrong);
  }
});

test("isLocal() is true only where nobody outside the machine comes in", () => {
  for (const local of ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/x"]) {
    assert.ok(isLocal(parseListen(local)), local);
  }
  for (const open of ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "127.example:1", "pi.local:1"]) {
    assert.ok(!isLocal(parseListen(open)), open);
  }
});

test("bind() tells the port it was given", async (t) => {
  assert.match(await bind(server(t), parseListen("127.0.0.1:0")), /^127\.0\.0\.1:[1-9]\d*$/);
});

test("bind() says that a port is taken", async (t) => {
  const address = await bind(server(t), parseListen("127.0.0.1:0"));
  const taken = new RegExp(`^Cannot listen on ${address}: another process has it$`);
  await assert.rejects(bind(server(t), parseListen(address)), refused(taken));
});

test("bind() makes a socket that only owner and group may use", async (t) => {
  const path = join(tempDir(t), "admin.sock");
  const before = process.umask();
  assert.equal(await bind(server(t), { kind: "unix", path }), `unix:${path}`);
  assert.equal(statSync(path).mode & 0o777, 0o660);
  assert.equal(process.umask(), before);
});

test("bind() takes the place of a socket whose process was killed", async (t) => {
  const path = join(tempDir(t), "admin.sock");
  const program = `require("node:net").createServer().listen(${JSON.stringify(path)})`;
  const child = spawn(process.execPath, ["-e", program]);
  await until("the child's socket", () => existsSync(path));
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.ok(existsSync(path), "it was left behind");
  await bind(server(t), { kind: "unix", path });
});

test("bind() leaves a socket that is answered, and a file, where they are", async (t) => {
  const folder = tempDir(t);
  const path = join(folder, "admin.sock");
  await bind(server(t), { kind: "unix", path });
  await assert.rejects(bind(server(t), { kind: "unix", path }), refused(/another process has it/));
  const file = join(folder, "notes.txt");
  writeFileSync(file, "mine");
  await assert.rejects(
    bind(server(t), { kind: "unix", path: file }),
    refused(/a file is in the way/),
  );
  assert.ok(existsSync(file));
  const lost = join(folder, "no/such/folder/x.sock");
  await assert.rejects(
    bind(server(t), { kind: "unix", path: lost }),
    refused(/folder does not exist/),
  );
});

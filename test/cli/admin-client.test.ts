import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connectAdmin, urlOf } from "../../src/cli/admin-client.ts";
import { runCommandLine } from "../../src/cli/commands.ts";
import { recordingIo } from "../support/recording-io.ts";
import { servedAdmin } from "../support/served-admin.ts";
import { tempDir } from "../support/temp-dir.ts";

test("connectAdmin() reaches an agent by HTTP, with its token", async (t) => {
  const { url } = await servedAdmin(t, { token: "s3cret" });
  const admin = await connectAdmin({ url, token: "s3cret" });
  assert.deepEqual(await admin.get("/groups"), { groups: [] });
});

test("connectAdmin() reaches an agent by its socket", async (t) => {
  const path = join(tempDir(t), "admin.sock");
  await servedAdmin(t, { listen: `unix:${path}` });
  const admin = await connectAdmin({ url: `unix:${path}` });
  assert.deepEqual(await admin.get("/groups"), { groups: [] });
});

test("a command says in one line that it lacks the token", async (t) => {
  const { url } = await servedAdmin(t, { token: "s3cret" });
  const io = recordingIo();
  assert.equal(await runCommandLine(["groups", "--url", url, "--token", "wr0ng"], io, "0.1.0"), 1);
  assert.match(
    io.stderr(),
    /^holdfast: The agent refused: The token is not the right one .*--token.*\n$/,
  );
  assert.doesNotMatch(io.stderr(), /wr0ng/);
});

test("a command says in one line that nobody is there", async (t) => {
  const path = join(tempDir(t), "admin.sock");
  const cases: [string, RegExp][] = [
    [
      "http://127.0.0.1:1",
      /Cannot reach the agent at http:\/\/127\.0\.0\.1:1: nothing listens there \(is it running\?/,
    ],
    [`unix:${path}`, /there is no such socket/],
    ["ftp://x", /use http:\/\/HOST:PORT or unix:\/PATH/],
  ];
  for (const [url, pattern] of cases) {
    const io = recordingIo();
    assert.equal(await runCommandLine(["status", "--url", url], io, "0.1.0"), 1);
    assert.match(io.stderr(), pattern);
    assert.equal(io.stderr().split("\n").length, 2);
  }
});

test("a command says so when a stranger answers", async (t) => {
  const server = createServer((_, response) => response.end("<html>")).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const io = recordingIo();
  assert.equal(
    await runCommandLine(["groups", "--url", `http://127.0.0.1:${port}`], io, "0.1.0"),
    1,
  );
  assert.match(io.stderr(), /what answers is not a holdfast agent/);
});

test("urlOf() finds on this machine what listens on every interface", () => {
  assert.equal(urlOf("127.0.0.1:8001"), "http://127.0.0.1:8001");
  assert.equal(urlOf("0.0.0.0:8001"), "http://127.0.0.1:8001");
  assert.equal(urlOf("[::]:8001"), "http://[::1]:8001");
  assert.equal(urlOf("unix:/run/a.sock"), "unix:/run/a.sock");
});

test("connectAdmin() finds address and token in the agent's configuration", async (t) => {
  const { url } = await servedAdmin(t, { token: "s3cret" });
  const folder = tempDir(t);
  writeFileSync(join(folder, "token"), "s3cret\n");
  const file = join(folder, "agent.yaml");
  const admin = `admin: { listen: "${new URL(url).host}", token: { file: ${join(folder, "token")} } }`;
  const source = "sources: { board: { type: system, stream: system } }";
  writeFileSync(file, `${source}\n${admin}\n`);
  assert.deepEqual(await (await connectAdmin({ config: file })).get("/groups"), { groups: [] });
});

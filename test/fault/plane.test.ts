/** What may happen to an agent's own Valkey, under load: nothing is lost, nothing doubled, and it comes back. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { figure, untilFigure, untilPartIs } from "../support/figures.ts";
import { isRunning, pathOf, planedAgent } from "../support/planed-agent.ts";
import { serverProgram } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const pidOf = async (from: { plane(): Promise<Record<string, unknown>> }): Promise<number> =>
  Number((await from.plane())["pid"]);

test("the plane takes its own server, which serves a socket for this user and group alone, and ends with the agent", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const metrics = await planed.agent.metrics();
  assert.equal(figure(metrics, "holdfast_plane_connected"), 1);
  assert.equal(figure(metrics, 'holdfast_plane_info{kind="valkey"}'), 1);
  assert.equal(figure(metrics, 'holdfast_plane_info{kind="memory"}'), 0);
  assert.match(planed.agent.output(), /Processors read from Valkey at unix:/);
  assert.equal(statSync(planed.socket).mode & 0o777, 0o660);
  const settings = ["maxmemory", "maxmemory-policy", "appendonly", "save", "port"].map((name) =>
    planed.cli("CONFIG", "GET", name).split("\n").at(-1),
  );
  assert.deepEqual(settings, [String(64 * 1024 * 1024), "noeviction", "no", "save", "0"]);
  await planed.publish(2_000).done;
  await planed.assertOnce();
  // Every stream of the configuration is there, and the processor's place in its own.
  assert.deepEqual(
    ["load", "counts", "audit"].map((stream) => planed.cli("XLEN", stream)),
    ["2000", "2000", "2000"],
  );
  await until("the last acknowledgement", () =>
    planed.cli("XINFO", "GROUPS", "load").includes("1000000002000-0"),
  );
  assert.match(planed.cli("XINFO", "GROUPS", "load"), /name\ncount\n/);
  await until("nothing to be pending", () =>
    planed.cli("XPENDING", "load", "count").startsWith("0"),
  );
  const pid = await pidOf(planed);
  const { code } = await planed.agent.stop();
  assert.equal(code, 0);
  assert.equal(isRunning(pid), false);
  assert.equal(existsSync(planed.socket), false);
  assert.equal(existsSync(`${planed.socket}.json`), false);
});

test("the plane's server may be killed again and again", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const publisher = planed.publish(16_000);
  const pids = new Set<number>();
  for (let kill = 0; kill < 4; kill++) {
    await until("a server to run", async () => (await pidOf(planed)) > 0);
    await delay(400 + Math.random() * 600);
    const pid = await pidOf(planed);
    pids.add(pid);
    if (pid > 0) process.kill(pid, "SIGKILL");
    await until("it to be gone", async () => (await pidOf(planed)) !== pid);
  }
  assert.ok(publisher.acknowledged() < 16_000, "the kills fell under load");
  assert.equal(await publisher.done, 16_000);
  await planed.assertOnce();
  assert.equal(pids.size, 4);
  await planed.untilPlane("valkey");
  await untilPartIs(planed.agent, "plane", "ok");
  // What was lost is there again, under the same IDs: the newest event is the last.
  await planed.untilProjected();
});

test("a server that was left by a killed agent is replaced by the next start", async (t) => {
  // Without setpriv nothing ends it with the agent.
  const PATH = pathOf(tempDir(t), [serverProgram()]);
  const planed = await planedAgent(t, { env: { PATH } });
  await planed.untilPlane("valkey");
  const publisher = planed.publish(8_000);
  const left: number[] = [];
  // A test that fails amid this must not leave them either.
  t.after(() => left.filter(isRunning).forEach((pid) => process.kill(pid, "SIGKILL")));
  for (let kill = 0; kill < 3; kill++) {
    await delay(500);
    left.push(await pidOf(planed));
    await planed.agent.kill();
    assert.ok(isRunning(left.at(-1) ?? 0), "the server outlives the agent");
    await planed.agent.start();
    await planed.untilPlane("valkey");
    assert.equal(isRunning(left.at(-1) ?? 0), false, "and not the next start");
    left.push(await pidOf(planed));
  }
  assert.equal(await publisher.done, 8_000);
  await planed.assertOnce();
  await planed.agent.stop();
});

test("a server ends with its killed agent, where there is setpriv", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const pid = await pidOf(planed);
  await planed.agent.kill();
  await until("the server to end", () => !isRunning(pid));
});

test("with no server on PATH the plane is memory: auto says so, valkey calls it degraded", async (t) => {
  for (const kind of ["auto", "valkey"] as const) {
    const planed = await planedAgent(t, {
      plane: `{ kind: ${kind} }`,
      env: { PATH: tempDir(t) },
    });
    const { status, detail } = await planed.plane();
    assert.equal(status, kind === "auto" ? "ok" : "degraded");
    if (kind === "valkey") assert.match(String(detail), /no valkey-server or redis-server on PATH/);
    assert.match(planed.agent.output(), /Processors read from memory/);
    const connected = figure(await planed.agent.metrics(), "holdfast_plane_connected");
    assert.equal(connected, kind === "auto" ? 1 : 0);
    await planed.publish(1_000).done;
    await planed.assertOnce();
    await planed.agent.stop();
  }
});

test("the plane is filled again after FLUSHALL", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const publisher = planed.publish(8_000);
  for (let flush = 0; flush < 3; flush++) {
    await delay(600);
    assert.equal(planed.cli("FLUSHALL"), "OK");
  }
  assert.equal(await publisher.done, 8_000);
  await planed.assertOnce();
  assert.equal((await planed.plane())["from"], "valkey");
  // Also when nothing comes any more.
  assert.equal(planed.cli("FLUSHALL"), "OK");
  await planed.untilProjected();
  assert.equal(planed.cli("XLEN", "counts"), "2000");
});

test("processors go on from memory while the server hangs, and from the server when it answers", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const publisher = planed.publish(24_000);
  await delay(500);
  const pid = await pidOf(planed);
  process.kill(pid, "SIGSTOP");
  t.after(() => isRunning(pid) && process.kill(pid, "SIGKILL"));
  await planed.untilPlane("memory");
  const { status, detail } = await planed.plane();
  assert.equal(status, "degraded");
  assert.match(String(detail), /Processors read from memory, nothing is lost/);
  const name = 'stream_messages_processed_total{stream="load",group="count",status="success"}';
  const before = figure(await planed.agent.metrics(), name) ?? 0;
  await untilFigure(planed.agent, name, (value) => value > before + 1_000);
  assert.equal((await planed.plane())["from"], "memory");
  process.kill(pid, "SIGCONT");
  await planed.untilPlane("valkey", 30_000);
  assert.equal(await pidOf(planed), pid);
  assert.equal(await publisher.done, 24_000);
  await planed.assertOnce();
  await untilPartIs(planed.agent, "plane", "ok");
  await planed.untilProjected();
});

test("a server whose memory others fill is left, and taken again when they leave", async (t) => {
  const planed = await planedAgent(t, { plane: "{ kind: auto, valkey: { maxMemory: 4MiB } }" });
  await planed.untilPlane("valkey");
  const publisher = planed.publish(12_000);
  await delay(300);
  const filled = planed.cli("EVAL", fillIt, "0");
  assert.match(filled, /^[1-9]\d*$/);
  await planed.untilPlane("memory");
  assert.match(String((await planed.plane())["detail"]), /OOM/);
  planed.cli("EVAL", "for i = 1, 4000 do redis.call('DEL', 'theirs' .. i) end", "0");
  await planed.untilPlane("valkey", 30_000);
  assert.equal(await publisher.done, 12_000);
  await planed.assertOnce();
});

/** Another program's keys, until the server takes no more, ours trimmed away included. */
const fillIt = `
local n = 0
redis.call('XTRIM', 'load', 'MAXLEN', 0)
redis.call('XTRIM', 'counts', 'MAXLEN', 0)
redis.call('XTRIM', 'audit', 'MAXLEN', 0)
for i = 1, 4000 do
  local made = redis.pcall('SET', 'theirs' .. i, string.rep('x', 4000))
  if made.err then break end
  n = n + 1
end
return n
`;

test("a group of another program that never acknowledges holds no trimming", async (t) => {
  const planed = await planedAgent(t, { plane: "{ kind: auto, valkey: { maxMemory: 4MiB } }" });
  await planed.untilPlane("valkey");
  planed.cli("XGROUP", "CREATE", "load", "theirs", "0", "MKSTREAM");
  const publisher = planed.publish(20_000, 0);
  let read = 0;
  while (publisher.acknowledged() < 20_000) {
    const words = "XREADGROUP GROUP theirs c COUNT 100 STREAMS load >".split(" ");
    const found = planed.cli(...words);
    read += found === "" ? 0 : 1;
    await delay(20);
  }
  assert.ok(read > 0);
  assert.equal(await publisher.done, 20_000);
  await planed.assertOnce();
  assert.equal((await planed.plane())["from"], "valkey");
  assert.ok(Number(planed.cli("XLEN", "load")) < 15_000, "it was trimmed");
  assert.match(planed.cli("XINFO", "GROUPS", "load"), /name\ntheirs\n/);
});

test("a stream whose key holds something else is read from memory, until the key is free", async (t) => {
  const planed = await planedAgent(t);
  await planed.untilPlane("valkey");
  const publisher = planed.publish(9_000);
  await delay(500);
  planed.cli("EVAL", "redis.call('DEL', 'load') redis.call('SET', 'load', 'theirs')", "0");
  const { components } = await untilPartIs(planed.agent, "plane", "degraded");
  assert.match(String(components["plane"]?.detail), /Stream load is read from memory/);
  assert.equal(await publisher.done, 9_000);
  await planed.assertOnce();
  assert.equal(planed.cli("GET", "load"), "theirs");
  assert.equal(planed.cli("TYPE", "counts"), "stream");
  planed.cli("DEL", "load");
  await untilPartIs(planed.agent, "plane", "ok", 45_000);
  assert.equal(planed.cli("TYPE", "load"), "stream");
});

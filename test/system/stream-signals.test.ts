/** SIGTERM and SIGINT at a library worker with two subscriptions: PSPF hangs there. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test, type TestContext } from "node:test";
import { Stream, ValkeyBackend } from "../../src/index.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

async function worker(t: TestContext, what: "slow" | "stuck") {
  server.cli("FLUSHALL");
  const backend = new ValkeyBackend({ url: server.url });
  for (const topic of ["one", "two"]) {
    const stream = new Stream<{ n: number }>({ topic, backend });
    await stream.emit([1, 2, 3].map((n) => ({ n })));
  }
  await backend.close();
  const script = new URL("../support/signalled-child.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, server.url, what], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += String(data)));
  const exit = once(child, "exit");
  await until("both handlers to run", () => /began one/.test(output) && /began two/.test(output));
  return { child, exit, output: () => output };
}

const pending = (topic: string): string =>
  server.cli("--raw", "XPENDING", topic, "g").split("\n")[0] ?? "";

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`Stream.runForever() ends at ${signal} with two subscriptions, and what was handled is acknowledged`, async (t) => {
    const { child, exit, output } = await worker(t, "slow");
    child.kill(signal);
    assert.deepEqual(await exit, [0, null]);
    assert.match(output(), /stopped\n$/);
    for (const topic of ["one", "two"]) {
      const ended = output().split(`ended ${topic}`).length - 1;
      const began = output().split(`began ${topic}`).length - 1;
      assert.equal(began, ended, "a handler was cut off");
      assert.equal(server.cli("--raw", "XLEN", topic), "3");
      // What was read and not begun stays pending for the next worker, and comes to it.
      assert.equal(Number(pending(topic)) + ended <= 3, true);
    }
  });
}

test("Stream.runForever() keeps the process alive with nothing but memory, until SIGTERM", async (t) => {
  const script = new URL("../support/signalled-child.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, "memory", "slow"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += String(data)));
  const exit = once(child, "exit");
  await until("the event", () => output.includes("ended one") || child.exitCode !== null);
  // Longer than any timer that a waiting stream has.
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  assert.equal(child.exitCode, null, "it ended by itself");
  child.kill("SIGTERM");
  assert.deepEqual(await exit, [0, null]);
  assert.match(output, /stopped\n$/);
});

test("Stream.runForever() ends at once at a second signal, whatever its handlers do", async (t) => {
  const { child, exit, output } = await worker(t, "stuck");
  child.kill("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(child.exitCode, null);
  child.kill("SIGTERM");
  assert.deepEqual(await exit, [143, null]);
  assert.doesNotMatch(output(), /ended|stopped/);
  assert.deepEqual(
    [pending("one"), pending("two")].map(Number).every((n) => n > 0),
    true,
  );
});

test("Stream.runForever() waits ten seconds at most for a handler that does not end, and leaves its event pending", async (t) => {
  const { child, exit, output } = await worker(t, "stuck");
  child.kill("SIGTERM");
  await until("the stream to be stopped", () => output().includes("stopped"));
  // What the handler has started is the program's own: the next signal is not held up by us.
  child.kill("SIGTERM");
  assert.deepEqual(await exit, [null, "SIGTERM"]);
  assert.ok(Number(pending("one")) > 0 && Number(pending("two")) > 0);
});

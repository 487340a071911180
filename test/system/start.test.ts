/** `holdfast run` with nothing: the built-in configuration, for who tries it for the first time. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { childAgent } from "../support/child-agent.ts";
import { holdfast, startHoldfast } from "../support/command-line.ts";
import { freePort } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** In the order in which they are opened. */
const builtInPorts = [8000, 8001, 1883];

/** Null: somebody else has it, a mosquitto service say. */
async function take(port: number): Promise<Server | null> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
    return server;
  } catch {
    return null;
  }
}

async function firstTaken(): Promise<number | undefined> {
  for (const port of builtInPorts) {
    const probe = await take(port);
    if (probe === null) return port;
    probe.close();
    await once(probe, "close");
  }
  return undefined;
}

test("run without a file says that 1883 is taken and what to do, and exits with 78", async (t) => {
  const taken = await take(1883);
  t.after(() => taken?.close());
  const home = tempDir(t);
  const env = { HOME: home, XDG_STATE_HOME: home, STATE_DIRECTORY: undefined };
  const port = await firstTaken();
  const { code, err } = await holdfast(t, ["run"], { env });
  assert.equal(code, 78, err);
  assert.ok(err.includes(`127.0.0.1:${port}`), err);
  assert.match(err, /another process has it|address is in use/);
  assert.match(err, /LISTEN_FAILED: \S+/);
  assert.match(err, /holdfast init/, "there is no file yet in which to change the port");
  t.diagnostic(err);
});

test("run without a file shows three things to try, and what is published, on the console", async (t) => {
  const isPossible = (await firstTaken()) === undefined;
  const home = tempDir(t);
  const env = { HOME: home, XDG_STATE_HOME: home, STATE_DIRECTORY: undefined };
  // Where a port is somebody else's: the same configuration on others, for all but the hints.
  const port = isPossible ? 1883 : await freePort();
  const elsewhere = await childAgent(
    home,
    `
streams:
  messages: { format: text }
sources:
  broker: { type: broker, listen: 127.0.0.1:${port}, topics: ["#"], stream: messages }
  board: { type: system, every: 10s, stream: system }
sinks:
  console: { type: console, from: [messages, system] }
`,
  );
  const args = isPossible ? ["run"] : ["run", "--config", elsewhere.configFile];
  const running = startHoldfast(t, args, { env });
  await running.shows("The agent is ready");
  if (isPossible) {
    await running.shows(/mosquitto_pub -p 1883 -t \S+ -m '\{.*\}'/);
    await running.shows("http://127.0.0.1:8000/");
    await running.shows("holdfast tail messages --follow");
    assert.ok(existsSync(join(home, "holdfast", "journal.db")), "the state directory has it");
  }
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  await client.publishAsync("greenhouse/env", '{"temperature":21.5}', { qos: 1 });
  await running.shows(/messages.*21\.5/);
  await running.shows(/system.*cpu/i);
  running.send("SIGINT");
  assert.equal((await running.ended).code, 0);
});

/** What a failed run leaves behind goes with it. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left.
  }
}

test("npm start passes a signal on: no agent is left behind when npm is ended", async (t) => {
  const { configFile, httpUrl } = await childAgent(
    tempDir(t),
    "sources: { board: { type: system, every: 10s, stream: system } }\nstreams: { system: {} }\n",
  );
  const args = ["start", "--silent", "--", "--config", configFile];
  const npm = spawn("npm", args, { stdio: ["ignore", "ignore", "inherit"], detached: true });
  t.after(() => killGroup(npm.pid ?? 0));
  const ended = once(npm, "exit");
  const isUp = (): Promise<boolean> =>
    fetch(`${httpUrl}/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until("the agent", isUp, 30_000);
  npm.kill("SIGTERM");
  await ended;
  await until("its end", async () => !(await isUp()), 10_000);
});

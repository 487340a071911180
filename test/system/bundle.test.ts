/** The bundle as a service manager runs it, with a socket in the manager's place. */
import assert from "node:assert/strict";
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connectAsync } from "mqtt";
import { bundleAgent, writePackageFile } from "../../cross-build/bundle.ts";
import { notifyModule, sqliteModule } from "../../cross-build/native.ts";
import { targets } from "../../cross-build/target.ts";
import { freePort, requireProgram } from "../support/mosquitto.ts";
import { serviceManager, type ServiceManager } from "../support/service-manager.ts";
import { tempDir, tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const folder = tempDirAll(after);
const program = join(folder, "holdfast.js");

before(async () => {
  requireProgram("x86_64-linux-gnu-gcc", "gcc libc6-dev");
  const here = targets.find(({ emulator }) => emulator === null);
  assert.ok(here !== undefined);
  await bundleAgent(folder);
  writePackageFile(folder, "1.2.3");
  copyFileSync(await sqliteModule(here), join(folder, "better_sqlite3.node"));
  copyFileSync(await notifyModule(here), join(folder, "notify.node"));
});

interface Running {
  readonly child: ChildProcess;
  readonly manager: ServiceManager;
  readonly configFile: string;
  readonly mqtt: number;
  readonly yaml: string;
  readonly err: () => string;
}

/** Beside nothing: no node_modules above it can be meant. */
async function running(t: TestContext, more = ""): Promise<Running> {
  const own = tempDir(t);
  const manager = await serviceManager(t, own);
  const [mqtt, http, admin] = [await freePort(), await freePort(), await freePort()];
  const configFile = join(own, "agent.yaml");
  const yaml = `
journal: { path: ${join(own, "journal.db")} }
http: { listen: "127.0.0.1:${http}" }
admin: { listen: "127.0.0.1:${admin}" }
sources: { listen: { type: broker, listen: "127.0.0.1:${mqtt}", topics: ["#"], stream: readings } }
${more}`;
  writeFileSync(configFile, yaml);
  const child = spawn(process.execPath, [program, "run", "--config", configFile], {
    cwd: own,
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      ...process.env,
      NOTIFY_SOCKET: manager.socket,
      WATCHDOG_USEC: String(watchdogMs * 1000),
    },
  });
  let err = "";
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  t.after(() => void child.kill("SIGKILL"));
  await manager.hears("READY=1");
  return { child, manager, configFile, mqtt, yaml, err: () => err };
}

const watchdogMs = 2_000;

function fed(manager: ServiceManager): number {
  return manager.heard().filter((message) => message === "WATCHDOG=1").length;
}

test("the bundle is one file and its threads', says its version and checks a file", (t) => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".js"));
  assert.deepEqual(files.sort(), [
    "holdfast.js",
    "isolated-worker.js",
    "sqlite-worker.js",
    "worker.js",
  ]);
  for (const name of files) {
    const longest = Math.max(
      ...readFileSync(join(folder, name), "utf8")
        .split("\n")
        .map((line) => line.length),
    );
    // A text of the program may be longer than a line should be; the whole file in one line may not.
    assert.ok(longest < 20_000, `${name} has a line of ${longest}`);
  }
  const version = spawnSync(process.execPath, [program, "--version"], {
    cwd: tempDir(t),
    encoding: "utf8",
  });
  assert.equal(version.stdout, "1.2.3\n", version.stderr);
  const check = spawnSync(process.execPath, [program, "check", "--config", "device/agent.yaml"], {
    encoding: "utf8",
  });
  assert.equal(check.status, 0, check.stderr);
});

test("run tells its manager that it is ready, alive, reloading and stopping; a dead upstream changes nothing", async (t) => {
  const { child, manager, configFile, yaml, err } = await running(
    t,
    'sinks: { bus: { type: mqtt, url: "mqtt://127.0.0.1:9", from: [readings], topic: t } }\n',
  );
  const before = fed(manager);
  await until("six feedings", () => fed(manager) >= before + 6);
  child.kill("SIGHUP");
  await manager.hears("RELOADING=1");
  await until(
    "a second readiness",
    () => manager.heard().filter((one) => one.includes("READY=1")).length === 2,
  );
  writeFileSync(configFile, `${yaml}nonsense: 1\n`);
  child.kill("SIGHUP");
  await manager.hears("STATUS=Refused: ");
  assert.match(err(), /nonsense: unknown key/);
  assert.ok(existsSync(`/proc/${child.pid}`), "it goes on");
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await manager.hears("STOPPING=1");
  assert.equal((await gone)[0], 0);
});

test("a journal worker that stands still starves the watchdog, and it says so", async (t) => {
  requireProgram("strace", "strace");
  const { child, manager, mqtt, err } = await running(t);
  const pid = String(child.pid);
  const thread = readdirSync(`/proc/${pid}/task`).find(
    (id) => readFileSync(`/proc/${pid}/task/${id}/comm`, "utf8").trim() === "journal",
  );
  assert.ok(thread !== undefined);
  const hang = [
    "-e",
    "trace=fsync,fdatasync",
    "-e",
    "inject=fsync,fdatasync:delay_enter=600000000",
  ];
  const strace = spawn("strace", ["-q", "-p", thread, ...hang], { stdio: "ignore" });
  t.after(() => void strace.kill("SIGKILL"));
  await until("strace to hold the thread", () =>
    /TracerPid:\s+[1-9]/.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8")),
  );
  const client = await connectAsync(`mqtt://127.0.0.1:${mqtt}`, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  client.publishAsync("a/b", "1", { qos: 1 }).catch(() => undefined);
  await until("the verdict", () => err().includes("The watchdog starves: the journal's commit"));
  const then = fed(manager);
  await delay(watchdogMs * 2);
  assert.equal(fed(manager), then, "nothing was fed since");
});

test("a main thread that stands still feeds nothing", async (t) => {
  const handler = join(tempDir(t), "frozen.js");
  writeFileSync(handler, "export default () => { for (;;); };\n");
  const { manager, mqtt } = await running(
    t,
    `processors: { frozen: { from: readings, handler: "${handler}" } }\n`,
  );
  const client = await connectAsync(`mqtt://127.0.0.1:${mqtt}`, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  client.publishAsync("a/b", "1", { qos: 1 }).catch(() => undefined);
  let then = -1;
  await until("no more feedings", async () => {
    const before = fed(manager);
    await delay(watchdogMs);
    then = fed(manager);
    return then === before;
  });
  await delay(watchdogMs);
  assert.equal(fed(manager), then);
});

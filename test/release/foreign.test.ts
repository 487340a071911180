/** The ARM packages, unpacked into clean Debian roots of their architecture, as an emulated processor runs them. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { copyRoot, foreignRoot, unpackDeb } from "../support/debian-root.ts";
import { freePort, requireProgram } from "../support/mosquitto.ts";
import { releaseFile, releaseVersion } from "../support/release-files.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const machines = [
  {
    debian: "arm64",
    suite: "bookworm",
    emulator: "qemu-aarch64-static",
    packages: ["libstdc++6"],
    node: "/usr/lib/holdfast/bin/node",
  },
  {
    // The user's own Node: the oldest Debian that has a current one for 32-bit ARM.
    debian: "armhf",
    suite: "sid",
    emulator: "qemu-arm-static",
    packages: ["libstdc++6", "nodejs"],
    node: "/usr/bin/node",
  },
] as const;
type Machine = (typeof machines)[number];

const events = 10_000;

/** An emulated processor takes its time; beside a busy machine more of it. */
const patienceMs = 120_000;

interface Installed {
  /** A command line of holdfast in the root, as the launcher would make it. */
  readonly command: (args: readonly string[]) => [string, string[]];
  readonly root: string;
}

function install(t: TestContext, machine: Machine): Installed {
  requireProgram(machine.emulator, "qemu-user-static");
  const root = join(tempDir(t), "root");
  copyRoot(foreignRoot(machine.suite, machine.debian, machine.packages), root);
  unpackDeb(releaseFile("deb", machine.debian), root);
  const emulator = execFileSync("which", [machine.emulator], { encoding: "utf8" }).trim();
  copyFileSync(emulator, join(root, "usr/bin/emulator"));
  execFileSync("chmod", ["0755", join(root, "usr/bin/emulator")]);
  mkdirSync(join(root, "var/lib/holdfast"), { recursive: true });
  const enter =
    'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec env -i HOME=/root PATH=/usr/sbin:/usr/bin chroot "$@"';
  const flags = ["--max-semi-space-size=4", "--max-old-space-size=128"];
  return {
    root,
    command(args) {
      const inside = ["/usr/bin/emulator", machine.node, ...flags, "/usr/lib/holdfast/holdfast.js"];
      return ["unshare", ["-m", "sh", "-c", enter, root, root, ...inside, ...args]];
    },
  };
}

function say({ command }: Installed, ...args: readonly string[]): string {
  const [program, words] = command(args);
  const { status, stdout, stderr } = spawnSync(program, words, {
    encoding: "utf8",
    timeout: patienceMs,
  });
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  return stdout;
}

for (const machine of machines) {
  test(`${machine.debian}: it says its version, checks its configuration, and ${events} events outlive kill -9`, async (t) => {
    requireProgram("mosquitto_pub", "mosquitto-clients");
    const installed = install(t, machine);
    assert.equal(say(installed, "--version").trim(), releaseVersion);
    assert.match(say(installed, "check", "--config", "/etc/holdfast/agent.yaml"), /is right/);
    const [mqtt, http, admin] = [await freePort(), await freePort(), await freePort()];
    writeFileSync(
      join(installed.root, "etc/holdfast/agent.yaml"),
      `
journal: { path: /var/lib/holdfast/journal.db }
http: { listen: "127.0.0.1:${http}" }
admin: { listen: "127.0.0.1:${admin}" }
sources: { listen: { type: broker, listen: "127.0.0.1:${mqtt}", topics: ["#"], stream: readings } }
streams: { readings: { format: text } }
`,
    );
    let agent = await start(t, installed, http);
    const lines = Array.from({ length: events }, (_, index) => `event-${index}\n`).join("");
    const to = ["-h", "127.0.0.1", "-p", String(mqtt), "-t", "a/b", "-q", "1", "-l"];
    const { status, stderr } = spawnSync("mosquitto_pub", to, {
      input: lines,
      timeout: patienceMs,
    });
    assert.equal(status, 0, String(stderr));
    // It ends when each was acknowledged; what is killed now is an agent that has promised all of them.
    await end(agent, "SIGKILL");
    agent = await start(t, installed, http);
    const url = `http://127.0.0.1:${admin}/streams`;
    const listed = (await (await fetch(url)).json()) as {
      streams: { name: string; head: number }[];
    };
    assert.equal(listed.streams.find(({ name }) => name === "readings")?.head, events);
    const seen = new Set<string>();
    for (let from = 1; from <= events; from += 1_000) {
      const answer = await fetch(`${url}/readings/events?from=${from}&limit=1000`);
      for (const line of (await answer.text()).trim().split("\n")) {
        const { payload } = JSON.parse(line) as { payload: string | { value: string } };
        seen.add(typeof payload === "string" ? payload : payload.value);
      }
    }
    assert.equal(seen.size, events);
    const health = (await (await fetch(`http://127.0.0.1:${http}/health`)).json()) as {
      status: string;
    };
    assert.equal(health.status, "ok");
    await end(agent, "SIGTERM");
    assert.equal(agent.exitCode, 0);
  });
}

async function start(t: TestContext, { command }: Installed, http: number): Promise<ChildProcess> {
  const [program, words] = command(["run", "--config", "/etc/holdfast/agent.yaml"]);
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr.on("data", (data: Buffer) => (output += data.toString()));
  t.after(() => end(child, "SIGKILL"));
  await until(
    "the agent to be ready",
    async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`It ended: ${child.exitCode} ${child.signalCode}\n${output}`);
      return (await fetch(`http://127.0.0.1:${http}/ready`).catch(() => null))?.ok ?? false;
    },
    patienceMs,
  );
  return child;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill(signal);
  await gone;
}

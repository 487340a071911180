/** The .deb in a Debian whose first process is systemd: what an owner does with it, and what befalls it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { bootMachine, freshMachine, type BootedMachine } from "../support/booted-machine.ts";
import { brokerConfig as broker, installedService } from "../support/installed-service.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { releaseFile, releaseVersion } from "../support/release-files.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const folder = tempDirAll(after);
let machine: BootedMachine;

const { property, configure, publish, stored, serves, restartsAfter } = installedService(
  () => machine,
);
/** So that a proof need not wait for a minute: looks are a second apart. */
const watchdogSeconds = 4;

before(async () => {
  requireProgram("mosquitto_pub", "mosquitto-clients");
  machine = await freshMachine(folder);
  copyFileSync(releaseFile("deb", "amd64"), join(machine.root, "release/new.deb"));
  copyFileSync(
    releaseFile("deb", "amd64", "dist/previous", "0.0.9"),
    join(machine.root, "release/old.deb"),
  );
});
after(() => machine.end());

test("the package installs without a start, and the unit is one that systemd understands", () => {
  machine.must("dpkg -i /release/new.deb");
  assert.equal(machine.must("holdfast --version").trim(), releaseVersion);
  assert.equal(machine.sh("systemctl is-enabled holdfast").out.trim(), "disabled");
  assert.match(machine.must("getent passwd holdfast"), /\/var\/lib\/holdfast:\/usr\/sbin\/nologin/);
  assert.match(machine.must("stat -c '%a %U:%G' /etc/holdfast/agent.yaml"), /^640 root:holdfast/);
  const { code, err } = machine.sh("systemd-analyze verify --man=no holdfast.service");
  assert.equal(code, 0, err);
  assert.equal(err, "");
  machine.must("dpkg -i /release/new.deb", "a second time, over itself");
});

test("enable --now: it is ready before there is any network, as nobody and without a capability", async () => {
  machine.must("systemctl enable --now holdfast");
  assert.equal(property("StatusText"), "Running");
  assert.equal(property("SubState"), "running");
  const status = readFileSync(`/proc/${machine.pidOf(Number(property("MainPID")))}/status`, "utf8");
  assert.match(status, /^CapEff:\s+0+$/m);
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  assert.match(status, /^Seccomp:\s+2$/m);
  const order = property("After");
  assert.doesNotMatch(order, /network|time-sync/);
  await serves();
});

test("a configuration with mistakes ends the start with 78, once, and the journal says why as an error", () => {
  machine.must("systemctl stop holdfast");
  configure("sources: { board: { type: sistem } }\n");
  assert.notEqual(machine.sh("systemctl start holdfast").code, 0);
  assert.equal(property("ExecMainStatus"), "78");
  assert.equal(property("ActiveState"), "failed");
  assert.equal(property("NRestarts"), "0");
  assert.match(machine.must("journalctl -u holdfast -p err -o cat"), /sistem.*system/);
});

test("credentials: a file in /etc/credstore is the admin API's token", async () => {
  machine.write("/etc/credstore/admin-token", "open-sesame\n");
  configure(`${broker}admin: { token: { credential: admin-token } }\n`);
  machine.must("systemctl reset-failed holdfast && systemctl start holdfast");
  await serves();
  assert.equal(machine.sh("holdfast streams").code, 1);
  assert.match(machine.must("holdfast streams --token open-sesame"), /readings/);
});

test("reload takes a new configuration in the same process, and refuses one with mistakes", async () => {
  const pid = property("MainPID");
  publish(100, "before");
  configure(broker);
  machine.must("systemctl reload holdfast");
  await until("the API without a token", () => machine.sh("holdfast streams").code === 0);
  assert.equal(property("MainPID"), pid);
  publish(100, "after");
  assert.equal(stored().length, 200);
  configure(`${broker}sinks: { bus: { type: mqqt } }\n`);
  assert.notEqual(machine.sh("systemctl reload holdfast").code, 0);
  assert.equal(property("MainPID"), pid);
  assert.equal(property("StatusText"), "Running");
  // What passes the check and cannot be opened: the old one goes on.
  configure(`${broker}http: { listen: "192.0.2.1:8000" }\n`);
  machine.must("systemctl reload holdfast");
  await until("the old configuration", () =>
    machine.must("journalctl -u holdfast -p err -o cat").includes("the old one is opened again"),
  );
  await until("the API", () => machine.sh("holdfast streams").code === 0);
  assert.equal(property("MainPID"), pid);
  configure(broker);
});

test("journald has the level of each line", async () => {
  configure(
    `${broker}sinks: { bus: { type: mqtt, url: "mqtt://127.0.0.1:9", from: [readings], topic: t } }\n`,
  );
  machine.must("systemctl reload holdfast");
  const levels = (): Set<string> => {
    const lines = machine.must("journalctl -u holdfast -o json").trim().split("\n");
    const said = lines.map((line) => JSON.parse(line) as { PRIORITY: string; MESSAGE: string });
    return new Set(
      said.flatMap(({ PRIORITY, MESSAGE }) => {
        const level = /^\{"level":"(\w+)"/.exec(MESSAGE)?.[1];
        return level === undefined ? [] : [`${level} ${PRIORITY}`];
      }),
    );
  };
  await until("a warning", () => levels().has("warn 4"));
  assert.ok(levels().has("info 6"));
  assert.deepEqual(
    [...levels()].filter((pair) => !["info 6", "warn 4", "error 3"].includes(pair)),
    [],
  );
});

test("kill -9: it is started again, and all that was acknowledged is there", async () => {
  const had = stored().length;
  publish(2_000, "kill");
  await restartsAfter(() => machine.must("systemctl kill -s KILL holdfast"));
  assert.equal(stored().length, had + 2_000);
});

test("a dead upstream and no events at all are no reason to starve the watchdog", async () => {
  machine.write(
    "/etc/systemd/system/holdfast.service.d/watchdog.conf",
    `[Service]\nWatchdogSec=${watchdogSeconds}\n`,
  );
  machine.must("systemctl daemon-reload && systemctl restart holdfast");
  await serves();
  const [pid, restarts] = [property("MainPID"), property("NRestarts")];
  const fed = property("WatchdogTimestampMonotonic");
  await delay(watchdogSeconds * 3_000);
  assert.equal(property("MainPID"), pid);
  assert.equal(property("NRestarts"), restarts);
  assert.notEqual(property("WatchdogTimestampMonotonic"), fed, "it was fed meanwhile");
  assert.match(machine.must("holdfast status"), /bus +sink +degraded/);
});

test("a main thread that does not come back starves the watchdog", async () => {
  machine.write(
    "/etc/holdfast/frozen.js",
    'export default (event) => { if (String(event.payload).includes("freeze")) for (;;); };\n',
  );
  configure(`${broker}processors: { frozen: { from: readings, handler: ./frozen.js } }\n`);
  machine.must("systemctl restart holdfast");
  await serves();
  const pid = property("MainPID");
  const args = ["-h", "127.0.0.1", "-p", "1883", "-t", "a/b", "-q", "1", "-m", "freeze"];
  machine.outside("timeout", ["2", "mosquitto_pub", ...args]);
  await until("the watchdog's verdict", () => timeouts() === 1, 60_000);
  await until("another process", () => !["0", pid].includes(property("MainPID")), 60_000);
  // Whoever wrote the handler takes it out again.
  configure(broker);
  machine.must("systemctl restart holdfast");
  await serves();
});

function timeouts(): number {
  return machine.must("journalctl -u holdfast -o cat").split("Watchdog timeout").length - 1;
}

test("a journal worker that hangs in a sync starves the watchdog", async (t) => {
  requireProgram("strace", "strace");
  const before = timeouts();
  const pid = machine.pidOf(Number(property("MainPID")));
  const thread = readdirSync(`/proc/${pid}/task`).find(
    (id) => readFileSync(`/proc/${pid}/task/${id}/comm`, "utf8").trim() === "journal",
  );
  assert.ok(thread !== undefined);
  // Each sync of that thread takes a minute.
  const inject = [
    "-e",
    "trace=fsync,fdatasync",
    "-e",
    "inject=fsync,fdatasync:delay_enter=60000000",
  ];
  const strace = spawn("strace", ["-q", "-p", thread, ...inject], { stdio: "ignore" });
  t.after(() => void strace.kill("SIGKILL"));
  await until("strace to hold the thread", () =>
    /TracerPid:\s+[1-9]/.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8")),
  );
  // Never acknowledged: its commit hangs.
  await restartsAfter(() => {
    const args = ["-h", "127.0.0.1", "-p", "1883", "-t", "a/b", "-q", "1", "-m", "hangs"];
    machine.outside("timeout", ["2", "mosquitto_pub", ...args]);
  });
  assert.equal(timeouts(), before + 1);
  assert.match(
    machine.must("journalctl -u holdfast -o cat"),
    /The watchdog starves: the journal's commit makes no step/,
  );
  await serves();
  publish(10, "again");
  machine.must("rm -r /etc/systemd/system/holdfast.service.d && systemctl daemon-reload");
  machine.must("systemctl restart holdfast");
  await serves();
});

test("stop ends under load within its time, with all that was acknowledged", async () => {
  const had = stored().length;
  const lines = Array.from({ length: 20_000 }, (_, index) => `stop-${index}\n`).join("");
  const args = ["-h", "127.0.0.1", "-p", "1883", "-t", "a/b", "-q", "1", "-l"];
  const began = performance.now();
  machine.must("systemd-run --on-active=1s --no-block systemctl stop holdfast");
  machine.outside("timeout", ["20", "mosquitto_pub", ...args], lines);
  await until("the stop", () => property("ActiveState") === "inactive", 20_000);
  assert.equal(property("Result"), "success");
  assert.ok(performance.now() - began < 40_000);
  machine.must("systemctl start holdfast");
  await serves();
  assert.ok(stored().length >= had);
});

test("upgrade and back with a filled journal: everything is there, once", async () => {
  machine.must(
    "systemctl stop holdfast; apt-get purge -y -q holdfast >/dev/null 2>&1 || dpkg -P holdfast",
  );
  machine.must("dpkg -i /release/old.deb");
  assert.equal(machine.must("holdfast --version").trim(), "0.0.9");
  configure(broker);
  machine.must("systemctl enable --now holdfast");
  await serves();
  publish(3_000, "old");
  // Everything is delivered by whichever version comes: into a file, exactly once.
  configure(
    `${broker}sinks: { archive: { type: file, path: /var/lib/holdfast/archive, from: [readings] } }\n`,
  );
  machine.must("dpkg --force-confold -i /release/new.deb");
  await serves();
  assert.equal(machine.must("holdfast --version").trim(), releaseVersion);
  publish(1_000, "new");
  machine.must("dpkg --force-confold -i /release/old.deb");
  await serves();
  publish(1_000, "back");
  const count = (): number =>
    Number(machine.must("zcat -f /var/lib/holdfast/archive/readings/*.ndjson* | wc -l").trim());
  await until("all of them in the file", () => count() >= 5_000, 30_000);
  assert.equal(count(), 5_000);
  const payloads = stored();
  assert.equal(new Set(payloads).size, 5_000);
});

test("remove keeps the state, purge deletes it, and both may come twice", () => {
  machine.must("dpkg -r holdfast");
  assert.ok(existsSync(join(machine.root, "var/lib/holdfast/journal.db")));
  assert.ok(existsSync(join(machine.root, "etc/holdfast/agent.yaml")));
  assert.equal(machine.sh("systemctl is-active holdfast").out.trim(), "inactive");
  machine.must("rm -f /etc/holdfast/frozen.js && dpkg -P holdfast && dpkg -P holdfast");
  assert.ok(!existsSync(join(machine.root, "var/lib/holdfast")));
  assert.ok(!existsSync(join(machine.root, "etc/holdfast")));
});

test("the tarball does the same by its scripts, and takes everything away again", async () => {
  copyFileSync(releaseFile("tar.gz", "linux-x64"), join(machine.root, "release/holdfast.tar.gz"));
  machine.must("cd /release && tar -xzf holdfast.tar.gz && ./holdfast-*-linux-x64/install.sh");
  machine.must("cd /release && ./holdfast-*-linux-x64/install.sh");
  machine.must("systemctl enable --now holdfast");
  await serves();
  machine.must("cd /release && ./holdfast-*-linux-x64/uninstall.sh --purge");
  const left = machine.must(
    "find / -xdev -name '*holdfast*' -not -path '/release*' -not -path '/proc/*'",
  );
  assert.doesNotMatch(left, /\/(usr|etc|var\/lib)\//, left);
});

test("with a root that cannot be written it starts, and keeps its state where there is a file system for it", async () => {
  machine.must("dpkg -i /release/new.deb && systemctl enable holdfast");
  await machine.end();
  // The root read-only, /var an empty file system of its own.
  machine = await bootMachine(machine.root, ["--volatile=state"]);
  await serves();
  assert.notEqual(machine.sh("touch /usr/written").code, 0);
  await until("events", () => /system +json +[1-9]/.test(machine.must("holdfast streams")));
  assert.equal(machine.must("stat -c %U /var/lib/holdfast/journal.db").trim(), "holdfast");
});

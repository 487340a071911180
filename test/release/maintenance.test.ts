/** What Debian does by itself to an installed service, while events come in: upgrades at night, restarts after them. */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, statSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { freshMachine, type BootedMachine } from "../support/booted-machine.ts";
import { installedService } from "../support/installed-service.ts";
import { startPublisher, type Publisher } from "../support/publishing.ts";
import { releaseFile, releaseVersion } from "../support/release-files.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const folder = tempDirAll(after);
let machine: BootedMachine;

const config = `
sources:
  listen: { type: broker, listen: "127.0.0.1:1883", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 100ms }
sinks:
  archive: { type: file, path: /var/lib/holdfast/archive, from: [load] }
`;

before(async () => {
  machine = await freshMachine(folder, ["needrestart", "unattended-upgrades"]);
  const old = releaseFile("deb", "amd64", "dist/previous", "0.0.9");
  copyFileSync(old, join(machine.root, "release/old.deb"));
  machine.must("dpkg -i /release/old.deb");
  machine.write("/etc/holdfast/agent.yaml", config);
  machine.must("systemctl enable --now holdfast");
  await serves();
});
after(() => machine.end());

const { property, serves } = installedService(() => machine);
const count = 10_000;

/** For 20 s; what is not acknowledged when a connection breaks is sent again. */
function load(t: TestContext): Publisher {
  const publisher = startPublisher({
    url: "mqtt://127.0.0.1:1883",
    topic: "load/d1",
    count,
    rate: 500,
    qos: 1,
    window: 200,
    resilient: true,
    within: machine.inNetwork,
  });
  t.after(() => publisher.end());
  return publisher;
}

/** Each number once in the file, though the stream may have what was sent again twice. */
async function assertAllThere(began: number): Promise<void> {
  const read = (): Set<number> => {
    const lines = machine.must("holdfast tail load --from 1 --json").trim().split("\n");
    const events = lines.map((line) => JSON.parse(line) as { seq: number; payload: { n: number } });
    return new Set(events.filter(({ seq }) => seq > began).map(({ payload }) => payload.n));
  };
  assert.equal(read().size, count);
  const seqs = (): number[] => {
    const out = machine.must("zcat -f /var/lib/holdfast/archive/load/*.ndjson*");
    const lines = out.split("\n").filter((line) => line !== "");
    return lines.map((line) => (JSON.parse(line) as { seq: number }).seq);
  };
  const head = headOf();
  await until("all to be archived", () => seqs().length >= head, 30_000);
  assert.deepEqual(
    seqs(),
    Array.from({ length: head }, (_, at) => at + 1),
  );
}

function headOf(): number {
  const { streams } = JSON.parse(machine.must("holdfast streams --json")) as {
    streams: { name: string; head: number }[];
  };
  return streams.find(({ name }) => name === "load")?.head ?? 0;
}

test("needrestart restarts it when a library was upgraded under load, and nothing is lost", async (t) => {
  const [pid, before] = [property("MainPID"), headOf()];
  const publisher = load(t);
  await until("the load to run", () => publisher.acknowledged() > 1_000);
  // As an upgrade does it: another file takes the old one's name.
  const library = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
  machine.must(`real=$(readlink -f ${library}) && cp -a $real $real.new && mv $real.new $real`);
  const { out, err } = machine.sh("needrestart -r a -l");
  await until("another process", () => !["0", pid].includes(property("MainPID")), 30_000).catch(
    (error: unknown) => {
      throw new Error(`${out}\n${err}`, { cause: error });
    },
  );
  await serves();
  assert.equal(await publisher.done, count);
  await assertAllThere(before);
  assert.equal(property("Result"), "success");
});

test("unattended-upgrades takes a new version under load, with the configuration kept, and nothing is lost", async (t) => {
  assert.equal(machine.must("holdfast --version").trim(), "0.0.9");
  offer("holdfast.deb");
  const before = headOf();
  const publisher = load(t);
  await until("the load to run", () => publisher.acknowledged() > 1_000);
  const said = machine.must("unattended-upgrade -v 2>&1");
  assert.equal(machine.must("holdfast --version").trim(), releaseVersion, said);
  await serves();
  assert.ok(publisher.acknowledged() < count, "the upgrade fell behind the load");
  assert.equal(await publisher.done, count);
  assert.equal(machine.must("cat /etc/holdfast/agent.yaml"), config);
  await delay(200);
  await assertAllThere(before);
});

/** The new version in a source of packages, which is all that the machine knows of. */
function offer(name: string): void {
  const file = releaseFile("deb", "amd64");
  copyFileSync(file, join(machine.root, "release", name));
  const sum = createHash("sha256").update(readFileSync(file)).digest("hex");
  const fields = `Filename: ./${name}\nSize: ${statSync(file).size}\nSHA256: ${sum}\n`;
  const control = machine.must(`dpkg-deb -f /release/${name}`).trimEnd();
  machine.write("/release/Packages", `${control}\n${fields}`);
  machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/release ./\n");
  machine.write(
    "/etc/apt/apt.conf.d/99-all",
    'Unattended-Upgrade::Origins-Pattern { "origin=*"; };\n',
  );
  machine.must("rm -f /etc/apt/sources.list.d/* && apt-get update");
}

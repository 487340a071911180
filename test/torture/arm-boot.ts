/**
 * The arm64 package in a Debian of its architecture whose first process is systemd, on an emulated processor: what an owner
 * does with a Raspberry Pi, as far as it can be done without one. It takes minutes, the more when its root is made.
 */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { registerEmulator } from "../support/binfmt.ts";
import { freshMachine, type BootedMachine } from "../support/booted-machine.ts";
import { brokerConfig, installedService } from "../support/installed-service.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { releaseFile, releaseVersion } from "../support/release-files.ts";

export interface ArmBootReport {
  readonly architecture: string;
  readonly node: string;
  readonly acknowledged: number;
  readonly stored: number;
  readonly kills: number;
  readonly seconds: number;
}

/** What systemd asks of the kernel for these, qemu-user cannot pass on (a mount of its own, a user namespace). */
const emulated = "[Service]\nLoadCredential=\nPrivateUsers=no\n";
const rounds = 3;
const each = 2_000;

export async function armBootRun(folder: string): Promise<ArmBootReport> {
  requireProgram("mosquitto_pub", "mosquitto-clients");
  const deb = releaseFile("deb", "arm64");
  const began = performance.now();
  const unregister = registerEmulator("qemu-aarch64");
  let machine: BootedMachine | undefined;
  try {
    machine = await freshMachine(folder, [], "arm64");
    copyFileSync(deb, join(machine.root, "release/holdfast.deb"));
    const owned = await own(machine);
    return { ...owned, seconds: (performance.now() - began) / 1000 };
  } finally {
    await machine?.end();
    unregister();
  }
}

async function own(machine: BootedMachine): Promise<Omit<ArmBootReport, "seconds">> {
  const service = installedService(() => machine);
  machine.must("dpkg -i /release/holdfast.deb");
  assert.equal(machine.must("holdfast --version").trim(), releaseVersion);
  service.configure(brokerConfig);
  machine.write("/etc/systemd/system/holdfast.service.d/emulated.conf", emulated);
  machine.must("systemctl daemon-reload && systemctl enable --now holdfast");
  await service.serves();
  assert.equal(service.property("StatusText"), "Running", "READY=1 and its status came");
  for (let round = 0; round < rounds; round += 1) {
    service.publish(each, `round-${round}`);
    await service.restartsAfter(() => machine.must("systemctl kill -s KILL holdfast"));
  }
  const stored = new Set(service.stored());
  for (let round = 0; round < rounds; round += 1)
    for (let n = 0; n < each; n += 1)
      assert.ok(stored.has(`round-${round}-${n}`), `${round}, ${n}`);
  assert.equal(service.property("NRestarts"), String(rounds));
  const pid = service.property("MainPID");
  service.configure(brokerConfig.replace("100ms", "200ms"));
  machine.must("systemctl reload holdfast");
  assert.equal(service.property("MainPID"), pid);
  machine.must("systemctl stop holdfast");
  assert.equal(service.property("Result"), "success");
  return {
    architecture: machine.must("dpkg --print-architecture").trim(),
    node: machine.must("/usr/lib/holdfast/bin/node -p 'process.version + process.arch'").trim(),
    acknowledged: rounds * each,
    stored: stored.size,
    kills: rounds,
  };
}

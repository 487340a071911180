/** The unit and what stands beside it, as systemd itself reads them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { requireProgram } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";

const unit = readFileSync("systemd/holdfast.service", "utf8");
const dropIns = readdirSync("systemd/drop-ins").sort();

test("the unit's exposure is at most 1.5, alone and with each drop-in", (t) => {
  requireProgram("systemd-analyze", "systemd");
  for (const name of [null, ...dropIns]) {
    const file = join(tempDir(t), "holdfast.service");
    const more = name === null ? "" : readFileSync(join("systemd/drop-ins", name), "utf8");
    // Later assignments count, as in a drop-in.
    writeFileSync(file, `${unit}\n${more}`);
    const { status, stdout } = spawnSync(
      "systemd-analyze",
      ["security", "--offline=true", "--threshold=15", file],
      { encoding: "utf8" },
    );
    const level = /exposure level.*: ([\d.]+)/.exec(stdout)?.[1];
    assert.equal(status, 0, `${name ?? "alone"}: ${level}\n${stdout}`);
    t.diagnostic(`${name ?? "alone"}: ${level}`);
  }
});

test("systemd finds nothing to complain about in the unit and each drop-in", (t) => {
  const root = tempDir(t);
  const folder = join(root, "etc/systemd/system");
  mkdirSync(join(folder, "holdfast.service.d"), { recursive: true });
  mkdirSync(join(root, "usr/bin"), { recursive: true });
  mkdirSync(join(root, "bin"), { recursive: true });
  copyFileSync("/bin/true", join(root, "usr/bin/holdfast"));
  copyFileSync("/bin/true", join(root, "bin/kill"));
  writeFileSync(join(folder, "holdfast.service"), unit);
  for (const name of dropIns)
    copyFileSync(join("systemd/drop-ins", name), join(folder, "holdfast.service.d", name));
  for (const target of ["sysinit.target", "basic.target", "multi-user.target", "shutdown.target"])
    writeFileSync(join(folder, target), `[Unit]\nDescription=${target}\n`);
  const { stderr } = spawnSync(
    "systemd-analyze",
    ["verify", "--man=no", `--root=${root}`, "holdfast.service"],
    { encoding: "utf8" },
  );
  const complaints = stderr.split("\n").filter((line) => line.includes("holdfast.service"));
  assert.deepEqual(complaints, [], stderr);
});

test("the unit keeps the issue's promises", () => {
  for (const line of [
    "Type=notify",
    "NotifyAccess=main",
    "Restart=always",
    "StartLimitIntervalSec=0",
    "RestartPreventExitStatus=78",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
  ])
    assert.ok(unit.split("\n").includes(line), line);
  assert.doesNotMatch(unit, /^(After|Wants|Requires)=.*network/m, "it never waits for the network");
  assert.doesNotMatch(unit, /^ExecStartPre=|^MemoryDenyWriteExecute=yes/m);
});

/** Has the kernel run another architecture's programs by qemu-user (binfmt_misc), for as long as a proof lasts. It needs root. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requireProgram } from "./mosquitto.ts";

const folder = "/proc/sys/fs/binfmt_misc";

/** `name` is qemu's: `qemu-aarch64`. What it gives takes it back; nothing where the machine had it already. */
export function registerEmulator(name: string): () => void {
  requireProgram(`${name}-static`, "qemu-user-static");
  if (!existsSync(join(folder, "register"))) {
    const { status, stderr } = spawnSync("mount", ["-t", "binfmt_misc", "binfmt_misc", folder]);
    if (status !== 0) throw new Error(`binfmt_misc cannot be mounted\n${stderr.toString()}`);
  }
  if (existsSync(join(folder, name))) return () => undefined;
  // As Debian's package has it: opened now, so that it is there in any root.
  writeFileSync(join(folder, "register"), readFileSync(`/usr/lib/binfmt.d/${name}.conf`));
  return () => writeFileSync(join(folder, name), "-1");
}

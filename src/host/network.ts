/** Which network interfaces are up, from /sys/class/net: an answer takes a few reads of a file system in memory. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Whether one of these is up; `wifi`: any that is wireless. */
export function isAnyUp(names: readonly string[], folder = "/sys/class/net"): boolean {
  return names.some((name) => {
    if (name !== "wifi") return isUp(join(folder, name));
    const all = existsSync(folder) ? readdirSync(folder) : [];
    return all.some((one) => existsSync(join(folder, one, "wireless")) && isUp(join(folder, one)));
  });
}

/** Tunnels and modems say `unknown` and carry all the same (kernel.org, sysfs-class-net: operstate, carrier). */
function isUp(folder: string): boolean {
  try {
    const state = readFileSync(join(folder, "operstate"), "utf8").trim();
    if (state !== "unknown") return state === "up";
    return readFileSync(join(folder, "carrier"), "utf8").trim() === "1";
  } catch {
    // Not there, or down: `carrier` of an interface that is down cannot be read.
    return false;
  }
}

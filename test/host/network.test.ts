import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isAnyUp } from "../../src/host/network.ts";
import { tempDir } from "../support/temp-dir.ts";

test("isAnyUp() knows interfaces by name, wifi by what is wireless, and carriers where the state is unknown", (t) => {
  const folder = tempDir(t);
  const add = (name: string, state: string, more: Record<string, string> = {}): void => {
    mkdirSync(join(folder, name));
    for (const [file, text] of Object.entries({ operstate: state, ...more }))
      writeFileSync(join(folder, name, file), `${text}\n`);
  };
  const up = (...names: string[]): boolean => isAnyUp(names, folder);
  add("eth0", "up");
  add("wlan0", "down");
  mkdirSync(join(folder, "wlan0", "wireless"));
  add("wg0", "unknown", { carrier: "1" });
  add("ppp0", "unknown", { carrier: "0" });
  assert.deepEqual(
    [up("eth0"), up("wlan0"), up("wifi"), up("wg0"), up("ppp0"), up("usb9")],
    [true, false, false, true, false, false],
  );
  assert.ok(up("wlan0", "eth0"));
  writeFileSync(join(folder, "wlan0", "operstate"), "up\n");
  assert.ok(up("wifi"));
  assert.ok(!isAnyUp(["wifi"], join(folder, "nothing")));
});

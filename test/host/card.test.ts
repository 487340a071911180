import assert from "node:assert/strict";
import { mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { readCardLife, type CardLife } from "../../src/host/card.ts";
import { tempDir } from "../support/temp-dir.ts";

/** As sysfs shows an eMMC whose partition holds the folder; what is undefined is not there. */
function life(t: TestContext, lifeTime?: string, preEol?: string): Promise<CardLife | null> {
  const [folder, sys] = [tempDir(t), tempDir(t)];
  const { dev } = statSync(folder);
  const number = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
  const disk = join(sys, "devices/mmc0/mmc0:0001/block/mmcblk0");
  mkdirSync(join(disk, "mmcblk0p2"), { recursive: true });
  mkdirSync(join(sys, "dev/block"), { recursive: true });
  symlinkSync(join(disk, "mmcblk0p2"), join(sys, "dev/block", number));
  mkdirSync(join(disk, "device"));
  if (lifeTime !== undefined) writeFileSync(join(disk, "device/life_time"), lifeTime);
  if (preEol !== undefined) writeFileSync(join(disk, "device/pre_eol_info"), preEol);
  return readCardLife(folder, sys);
}

test("readCardLife() takes the worse of an eMMC's two kinds of cells, and its reserve", async (t) => {
  assert.deepEqual(await life(t, "0x01 0x04\n", "0x01\n"), { usedPercent: 40, reserve: "normal" });
  assert.deepEqual(await life(t, "0x0b 0x01\n", "0x03\n"), { usedPercent: 110, reserve: "urgent" });
  assert.deepEqual(await life(t, "0x02 0x00\n"), { usedPercent: 20, reserve: "unknown" });
});

test("readCardLife() says nothing of what does not tell", async (t) => {
  assert.equal(await life(t), null);
  assert.equal(await life(t, "0x00 0x00\n", "0x00\n"), null);
  assert.equal(await life(t, "what?\n"), null);
  assert.equal(await readCardLife("/no/such/folder"), null);
  assert.equal(await readCardLife("/proc"), null);
});

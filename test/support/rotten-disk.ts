/**
 * A disk that refuses to read one place: btrfs answers EIO for what does not fit its checksum, as a card does for a
 * sector that it has lost, and takes writes all the same. Needs root.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, truncateSync, writeSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { requireProgram } from "./mosquitto.ts";
import { tempDir } from "./temp-dir.ts";

export interface RottenDisk {
  readonly folder: string;
  /** Each place where these bytes lie cannot be read any more. Nothing may be open there. */
  rot(bytes: Uint8Array): void;
}

export function rottenDisk(test: TestContext, bytes: number): RottenDisk {
  requireProgram("mkfs.btrfs", "btrfs-progs");
  let mounted: string | undefined;
  // Unmounted before its folder is removed, whatever still uses it.
  test.after(() => mounted !== undefined && execFileSync("umount", ["-l", mounted]));
  const around = tempDir(test);
  const [folder, image] = [join(around, "disk"), join(around, "image")];
  mkdirSync(folder);
  writeFileSync(image, "");
  truncateSync(image, bytes);
  execFileSync("mkfs.btrfs", ["-q", "-m", "single", image]);
  const mount = (): Buffer => execFileSync("mount", ["-o", "loop", image, folder]);
  mount();
  mounted = folder;
  return {
    folder,
    rot(wanted) {
      execFileSync("umount", [folder]);
      mounted = undefined;
      const content = readFileSync(image);
      const file = openSync(image, "r+");
      let places = 0;
      // Files that are gone may have had them as well.
      for (let at = content.indexOf(wanted); at >= 0; at = content.indexOf(wanted, at + 1)) {
        writeSync(file, Buffer.alloc(16), 0, 16, at);
        places += 1;
      }
      closeSync(file);
      assert.ok(places > 0, "It is not on the disk");
      mount();
      mounted = folder;
    },
  };
}

/** A file system of the test's own, small enough to be filled; needs root. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  rmSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { requireProgram } from "./mosquitto.ts";
import { tempDir } from "./temp-dir.ts";

/**
 * They differ where it matters: ext4 promises room at write(2) and takes it later, gives freed blocks back only when
 * its own journal has committed, and keeps tables of its own; tmpfs takes and gives pages at once.
 */
export const diskKinds = ["tmpfs", "ext4"] as const;
export type DiskKind = (typeof diskKinds)[number];

export interface SmallDisk {
  readonly folder: string;
  /** Takes all that is free, as another program's log would. */
  fill(): void;
  /** Gives back what `fill` took. */
  empty(): void;
}

/** Unmounted before its folder is removed, whatever still uses it. */
export function smallDisk(test: TestContext, bytes: number, kind: DiskKind = "tmpfs"): SmallDisk {
  let mounted: string | undefined;
  test.after(() => mounted !== undefined && execFileSync("umount", ["-l", mounted]));
  const around = tempDir(test);
  const folder = join(around, "disk");
  mkdirSync(folder);
  if (kind === "tmpfs") {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", folder]);
  } else {
    requireProgram("mkfs.ext4", "e2fsprogs");
    const image = join(around, "image");
    writeFileSync(image, "");
    truncateSync(image, bytes);
    execFileSync("mkfs.ext4", ["-q", "-F", image]);
    execFileSync("mount", ["-o", "loop", image, folder]);
  }
  mounted = folder;
  const ballast = join(folder, "ballast");
  return {
    folder,
    fill: () => fillWith(ballast),
    empty: () => rmSync(ballast, { force: true }),
  };
}

function fillWith(path: string): void {
  const file = openSync(path, "a");
  try {
    // What ext4 had promised to the first round and did not need, the next one takes.
    for (let taken = 1; taken > 0;) {
      taken = 0;
      for (const bytes of [65_536, 4096, 512]) {
        try {
          for (;;) {
            const written = writeSync(file, Buffer.alloc(bytes, 1));
            taken += written;
            if (written < bytes) break;
          }
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
        }
      }
      try {
        fsyncSync(file);
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, "ENOSPC");
      }
    }
  } finally {
    closeSync(file);
  }
}

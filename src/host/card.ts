/**
 * What a card says of its own life. eMMC reports it (JEDEC JESD84-B51, EXT_CSD 267 to 269), and Linux shows it beside the
 * device (drivers/mmc/core/mmc.c: `life_time`, `pre_eol_info`); SD cards and other disks say nothing.
 */
import { readFile, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";

export interface CardLife {
  /** Of what it was made for, at most, percent in tens; more than 100: it is past that. */
  readonly usedPercent: number;
  /** Of the blocks in reserve: 80 % are used (`warning`), 90 % (`urgent`). */
  readonly reserve: "normal" | "warning" | "urgent" | "unknown";
}

const reserves = ["unknown", "normal", "warning", "urgent"] as const;

/** Of the card that a folder lies on; null: none, or one that does not tell. `sys` is where sysfs is mounted. */
export async function readCardLife(folder: string, sys = "/sys"): Promise<CardLife | null> {
  try {
    const { dev } = await stat(folder);
    // makedev(3): how Linux packs both numbers into one.
    const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
    return await readLife(await realpath(join(sys, "dev/block", `${major}:${minor}`)));
  } catch {
    return null;
  }
}

/** A partition's device lies above it. */
async function readLife(block: string): Promise<CardLife | null> {
  const life = await tryRead(join(block, "device/life_time"));
  if (life === null) {
    const above = dirname(block);
    return above.endsWith("/block") || above === block ? null : readLife(above);
  }
  // One for each kind of cell that it has: 1 is up to 10 %, 11 is beyond all; 0 says nothing.
  const kinds = life.trim().split(/\s+/).map(Number);
  const tens = Math.max(0, ...kinds.filter((kind) => Number.isInteger(kind) && kind <= 11));
  if (tens === 0) return null;
  const reserve = Number((await tryRead(join(block, "device/pre_eol_info"))) ?? 0);
  return { usedPercent: tens * 10, reserve: reserves[reserve] ?? "unknown" };
}

async function tryRead(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return null;
  }
}

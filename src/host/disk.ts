/** The health component `disk`: how much room the journal's file system has. */
import { statfs } from "node:fs/promises";
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import { formatSize } from "../core/quantity.ts";

export interface DiskWatch {
  /** Looks once, then goes on by itself. */
  start(): Promise<void>;
  stop(): void;
}

interface DiskParts {
  readonly context: Context;
  /** A folder on that file system. */
  readonly folder: string;
  readonly statfs?: typeof statfs;
}

/** statfs(2) asks the kernel, not the card: it is cheap, and a disk does not fill in half a minute. */
const everyMs = 30_000;
/** Below this share the file system's own allocation slows down, and others on the device begin to fail. */
const freeShareMin = 0.05;
/** On a large disk 5 % is plenty, on a small one it is nothing: SQLite's WAL and a checkpoint need some room. */
const freeBytesMin = 64 * 1024 * 1024;

export function createDiskWatch({ context, folder, ...parts }: DiskParts): DiskWatch {
  const ask = parts.statfs ?? statfs;
  const { clock, health, log } = context;
  let timer: Timer | undefined;
  let stopped = true;
  let freeBytes: number | null = null;
  let totalBytes: number | null = null;
  let wasShort = false;
  health.figures(() => ({ folder, freeBytes, totalBytes }));

  const look = async (): Promise<void> => {
    try {
      const found = await ask(folder);
      // bavail: what is free for us, without what is reserved for root.
      freeBytes = found.bavail * found.bsize;
      totalBytes = found.blocks * found.bsize;
      const isShort = freeBytes < freeBytesMin || freeBytes < totalBytes * freeShareMin;
      const left = `${formatSize(freeBytes)} of ${formatSize(totalBytes)} free`;
      if (isShort) {
        const detail = `The disk under ${folder} is nearly full: ${left}; when it is full nothing more is accepted`;
        health.report("degraded", detail);
        if (!wasShort) log.warn("The disk is nearly full", { folder, freeBytes, totalBytes });
      } else {
        health.report("ok");
        if (wasShort) log.info("The disk has room again", { folder, freeBytes, totalBytes });
      }
      wasShort = isShort;
    } catch (error) {
      health.report(
        "degraded",
        `Cannot ask the disk under ${folder} for its room: ${messageOf(error)}`,
      );
    }
  };
  const turn = async (): Promise<void> => {
    await look();
    if (!stopped) timer = clock.after(everyMs, () => void turn());
  };
  return {
    async start() {
      stopped = false;
      await turn();
    },
    stop() {
      stopped = true;
      timer?.cancel();
    },
  };
}

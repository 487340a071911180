/**
 * Reads files under /sys that may hang: a 1-Wire conversion takes 750 ms, a stuck bus any time.
 *
 * A read that hangs holds one of libuv's threads (as few as two on a small board), which the whole process needs, and
 * cannot be taken back. So reads go one after the other, each with a time-out; a file that has not answered yet is
 * not read again; and with `lateMax` of them nothing is read until one answers.
 */
import { readdir, readFile } from "node:fs/promises";
import type { Clock } from "../core/clock.ts";

/** w1_therm tries a conversion of 750 ms five times before it gives up (W1_THERM_MAX_TRY). */
const readTimeoutMs = 5000;
const lateMax = 2;

export class SensorFiles {
  readonly #clock: Clock;
  readonly #late = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Files that were asked and have not answered. */
  get late(): number {
    return this.#late.size;
  }

  /** Sorted; none where the folder is not there. */
  async names(folder: string): Promise<string[]> {
    const names: string[] = await readdir(folder).catch(() => []);
    return names.sort();
  }

  /** Without the line end; undefined where it cannot be read: `why` tells. */
  async text(path: string): Promise<string | undefined> {
    if (this.#late.has(path) || this.#late.size >= lateMax) return undefined;
    const late = Promise.withResolvers<undefined>();
    const timer = this.#clock.after(readTimeoutMs, () => {
      this.#late.add(path);
      late.resolve(undefined);
    });
    const read = readFile(path, "utf8")
      .then((text) => text.trim())
      .catch(() => undefined)
      .finally(() => {
        timer.cancel();
        this.#late.delete(path);
      });
    return await Promise.race([read, late.promise]);
  }

  /** Finite, else undefined. */
  async number(path: string): Promise<number | undefined> {
    const text = await this.text(path);
    if (text === undefined || text === "") return undefined;
    const value = Number(text);
    return Number.isFinite(value) ? value : undefined;
  }

  /** Why `path` gave nothing. */
  why(path: string): string {
    if (this.#late.has(path)) return `has not answered for ${readTimeoutMs / 1000} s`;
    return this.#late.size >= lateMax ? "waits for sensors that hang" : "gives no reading";
  }
}

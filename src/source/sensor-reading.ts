/** What a driver finds, and how files under /sys are read. */
import { readdir, readFile } from "node:fs/promises";

/** One sensor's quantities, or why it has none. */
export type Reading =
  | { readonly sensor: string; readonly quantities: Readonly<Record<string, number>> }
  | { readonly sensor: string; readonly problem: string };

/** `only`: names to read; empty: all. Resolves with what is there, an empty list when nothing is. */
export type Driver = (root: string, only: ReadonlySet<string>) => Promise<readonly Reading[]>;

/** Sorted; none where the folder is not there. */
export async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => []);
  return names.sort();
}

/** Without the line end; undefined where it cannot be read. */
export async function textOf(path: string): Promise<string | undefined> {
  return (await readFile(path, "utf8").catch(() => undefined))?.trim();
}

/** Finite, else undefined. */
export async function numberOf(path: string): Promise<number | undefined> {
  const text = await textOf(path);
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

/** Binary fractions such as 21.400000000000002 are the division's, not the sensor's. */
export function rounded(value: number): number {
  return Number(value.toPrecision(9));
}

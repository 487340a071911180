/** The folder of a RocksDbStore: whose it is, and that it is there for good. */
import { mkdir, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError } from "../core/errors.ts";

/** What RocksDB itself keeps in a folder before CURRENT says that it is whole. */
const ownFiles = /^(LOCK|LOG|LOG\.old\..*|IDENTITY|SESSION_ID|MANIFEST-\d+|OPTIONS-.*|\d+\.\w+)$/;

/** @throws HoldfastError STATE_FOREIGN when something else lies there */
export async function checkFolder(path: string): Promise<void> {
  const made = await mkdir(path, { recursive: true }).catch((thrown: unknown) => {
    const code = String((thrown as { code?: unknown }).code);
    if (code === "EEXIST" || code === "ENOTDIR") throw foreign(path, "it is a file, not a folder");
    throw thrown;
  });
  if (made !== undefined) await syncFolder(join(path, ".."));
  const names = await readdir(path);
  const other = names.includes("CURRENT") ? undefined : names.find((name) => !ownFiles.test(name));
  if (other !== undefined) throw foreign(path, `it holds ${other}, which is another program's`);
}

export function foreign(path: string, why: string): HoldfastError {
  return new HoldfastError("STATE_FOREIGN", `Cannot use ${path} for state: ${why}`);
}

export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

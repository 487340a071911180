/** What lies in an archive: names of files by stream folder, and the seqs read back. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readArchive } from "./archive.ts";

export function namesOf(path: string, stream: string): string[] {
  const folder = join(path, stream);
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

export function seqsOf(path: string, stream: string): number[] {
  return readArchive(path, stream).map((line) => line.seq);
}

export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

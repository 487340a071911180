/**
 * What a process asked of the disk, in order: strace's output read back.
 *
 * strace, and not a recording VFS under SQLite: it sees what Node writes beside SQLite too (folders, syncs of folders,
 * side files), in one order with what the process said, and nothing has to be built into the product for it.
 *
 * A call counts where it returned, since a sync that had not returned has promised nothing; what the process said
 * counts from where it began to say it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { requireProgram } from "../support/mosquitto.ts";

export type DiskCall =
  | { readonly kind: "mkdir" | "create" | "unlink"; readonly path: string }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  | { readonly kind: "write"; readonly path: string; readonly at: number; readonly data: Buffer }
  /** Of `size` bytes of the file `from`, which begin at `fromAt`, as it was then. */
  | {
      readonly kind: "copy";
      readonly path: string;
      readonly at: number;
      readonly from: string;
      readonly fromAt: number;
      readonly size: number;
    }
  | { readonly kind: "truncate" | "grow"; readonly path: string; readonly size: number }
  /** fsync or fdatasync, of a file or a folder. */
  | { readonly kind: "sync"; readonly path: string }
  /** The process said this. */
  | { readonly kind: "said"; readonly line: string };

const calls =
  "openat,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,pwrite64,write,lseek,ftruncate,fallocate,fsync,fdatasync,link,linkat,pwritev,pwritev2,writev,copy_file_range,sendfile,rmdir";

/**
 * Runs `program` and gives back its calls under `folder`. A process that kills itself is no failure. `existing`: the
 * files that are there, kept from one run to the next.
 */
export async function traceDisk(
  folder: string,
  trace: string,
  program: readonly string[],
  existing: Set<string>,
): Promise<DiskCall[]> {
  requireProgram("strace", "strace");
  const options = ["-f", "-y", "-xx", "-s", "2000000", "-e", `trace=${calls}`, "-e", "signal=none"];
  const child = spawn("strace", [...options, "-o", trace, process.execPath, ...program], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let problems = "";
  child.stderr.on("data", (data: Buffer) => (problems += data.toString()));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  if (code !== 0 && signal !== "SIGKILL" && code !== 137) throw new Error(problems);
  return parseTrace(readFileSync(trace, "latin1"), folder, existing);
}

function parseTrace(text: string, folder: string, existing: Set<string>): DiskCall[] {
  const unfinished = new Map<string, string>();
  const found: DiskCall[] = [];
  /** How far each open file was written, for calls without a place. */
  const positions = new Map<string, number>();
  for (const line of text.split("\n")) {
    const parted = /^(\d+) +(.*)$/.exec(line);
    if (parted === null) continue;
    const [, thread = "", rest = ""] = parted;
    if (rest.endsWith("<unfinished ...>")) {
      const begun = rest.slice(0, -"<unfinished ...>".length);
      // Whole already: nothing but its result is to come.
      if (begun.startsWith("write(1<")) found.push({ kind: "said", line: saidIn(begun) });
      else unfinished.set(thread, begun);
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    const whole = resumed === null ? rest : `${unfinished.get(thread) ?? ""}${resumed[1]}`;
    const call = /^(\w+)\((.*)\) += (-?\d+)/.exec(whole);
    if (call === null || Number(call[3]) < 0) continue;
    // A call that was interrupted by another thread's has a blank before what was left of it.
    const [, name = "", args = "", result = ""] = call.map((part) => part.trim());
    found.push(...read(name, args, Number(result), folder, positions, existing));
  }
  return found;
}

function read(
  name: string,
  args: string,
  result: number,
  folder: string,
  positions: Map<string, number>,
  existing: Set<string>,
): DiskCall[] {
  const paths = [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex = ""]) => bytesOf(hex));
  const handle = /^\d+<([^>]*)>/.exec(args)?.[1];
  const path = handle === undefined ? "" : bytesOf(handle).toString();
  const isOurs = (one: string): boolean => one === folder || one.startsWith(`${folder}/`);
  const named = paths.map((bytes) => bytes.toString());
  const first = named[0] ?? "";
  switch (name) {
    case "openat": {
      if (!isOurs(first)) return [];
      positions.set(first, 0);
      const isNew = args.includes("O_CREAT") && !existing.has(first);
      const isCut = args.includes("O_TRUNC") && !isNew;
      existing.add(first);
      if (isNew) return [{ kind: "create", path: first }];
      return isCut ? [{ kind: "truncate", path: first, size: 0 }] : [];
    }
    case "mkdir":
    case "mkdirat":
      return isOurs(first) ? [{ kind: "mkdir", path: first }] : [];
    case "unlink":
    case "unlinkat":
      existing.delete(first);
      return isOurs(first) ? [{ kind: "unlink", path: first }] : [];
    case "rename":
    case "renameat":
    case "renameat2": {
      const to = named[1] ?? "";
      existing.delete(first);
      existing.add(to);
      return isOurs(first) ? [{ kind: "rename", path: first, to }] : [];
    }
    case "pwrite64": {
      if (!isOurs(path)) return [];
      const at = Number(/, (\d+)$/.exec(args)?.[1]);
      if (!Number.isInteger(at)) throw new Error("A write without a place");
      return [{ kind: "write", path, at, data: (paths[0] as Buffer).subarray(0, result) }];
    }
    case "write": {
      const data = (paths[0] ?? Buffer.alloc(0)).subarray(0, result);
      if (args.startsWith("1<")) return [{ kind: "said", line: data.toString().trim() }];
      if (!isOurs(path)) return [];
      const at = positions.get(path) ?? 0;
      positions.set(path, at + result);
      return [{ kind: "write", path, at, data }];
    }
    case "copy_file_range": {
      const [from = "", to = ""] = [...args.matchAll(/\d+<([^>]*)>/g)].map(([, hex = ""]) =>
        bytesOf(hex).toString(),
      );
      if (!isOurs(to)) return [];
      const fromAt = Number(/\[(\d+)\]/.exec(args)?.[1]);
      if (!Number.isInteger(fromAt)) throw new Error("A copy from no place");
      const at = positions.get(to) ?? 0;
      positions.set(to, at + result);
      return [{ kind: "copy", path: to, at, from, fromAt, size: result }];
    }
    case "lseek":
      positions.set(path, result);
      return [];
    case "ftruncate": {
      const size = Number(/, (\d+)$/.exec(args)?.[1]);
      return isOurs(path) ? [{ kind: "truncate", path, size }] : [];
    }
    case "fallocate": {
      const [, at = "0", length = "0"] = /, (\d+), (\d+)$/.exec(args) ?? [];
      return isOurs(path) ? [{ kind: "grow", path, size: Number(at) + Number(length) }] : [];
    }
    case "fsync":
    case "fdatasync":
      return isOurs(path) || path === dirname(folder) ? [{ kind: "sync", path }] : [];
    default:
      // What the journal does not do must not pass unseen.
      if (isOurs(path) || isOurs(first)) throw new Error(`The recorder does not know ${name}`);
      return [];
  }
}

function saidIn(call: string): string {
  const hex = /"((?:\\x[0-9a-f]{2})*)"/.exec(call)?.[1] ?? "";
  return bytesOf(hex).toString().trim();
}

function bytesOf(escaped: string): Buffer {
  if (!escaped.startsWith("\\x")) return Buffer.from(escaped, "latin1");
  return Buffer.from(escaped.replaceAll("\\x", ""), "hex");
}

/** Where the folder under proof lies in `base`, which exists: two folders deep, so that both must be made. */
export function nestedFolder(base: string): string {
  return join(base, "made", "here");
}

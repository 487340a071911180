/**
 * What the machine knows of server programs: where one is, where its socket may lie, and whether a process is the one
 * that a record names.
 */
import { createHash } from "node:crypto";
import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { environment } from "../core/environment.ts";

/** In the order of choice. */
const programs = ["valkey-server", "redis-server"];

/** The first of them on PATH, whole; null: there is none. */
export function findServer(path = environment("PATH") ?? ""): string | null {
  return (
    programs.map((program) => findProgram(program, path)).find((found) => found !== null) ?? null
  );
}

export function findProgram(program: string, path = environment("PATH") ?? ""): string | null {
  for (const folder of path.split(delimiter)) {
    if (!folder.startsWith("/")) continue;
    const file = join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // The next one.
    }
  }
  return null;
}

/**
 * The socket of the agent with this journal: `$RUNTIME_DIRECTORY/valkey.sock` (systemd.exec(5)), else
 * `$XDG_RUNTIME_DIR/holdfast/valkey.sock`, else beside the journal. Agents of one user share the second: all but the one
 * with the default journal have the journal's digest in the name.
 */
export function serverSocket(journal: string, defaultJournal: string): string {
  const [service] = (environment("RUNTIME_DIRECTORY") ?? "").split(":");
  if (service !== undefined && service !== "") return join(service, "valkey.sock");
  const path = resolve(journal);
  const user = environment("XDG_RUNTIME_DIR") ?? "";
  if (!user.startsWith("/")) return join(dirname(path), "valkey.sock");
  const digest = createHash("sha256").update(path).digest("hex").slice(0, 8);
  const name = path === resolve(defaultJournal) ? "valkey.sock" : `valkey-${digest}.sock`;
  return join(user, "holdfast", name);
}

/** A process of this boot, told apart from a later one with the same number by when it was started. */
export interface ProcessMark {
  readonly pid: number;
  /** In the kernel's ticks since the boot (proc_pid_stat(5), field 22). */
  readonly started: string;
}

/** null: there is no such process. */
export function processMark(pid: number): ProcessMark | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may hold spaces and brackets itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has ended.
    if (fields[0] === "Z") return null;
    return { pid, started: fields[19] ?? "" };
  } catch {
    return null;
  }
}

export function isAlive(mark: ProcessMark): boolean {
  return processMark(mark.pid)?.started === mark.started;
}

/** Its arguments, separated by spaces; empty where it has ended. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

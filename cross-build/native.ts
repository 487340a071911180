/** The machine code in a release: better-sqlite3's native module, our own one, and Node. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { rm, mkdtemp, rename } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Target } from "./target.ts";
import { cached, run, words } from "./shell.ts";

const headers = resolve("node_modules/node-api-headers/include");
const sqlitePackage = resolve("node_modules/better-sqlite3");
/** better-sqlite3 13 asks for it (src/journal/sqlite.ts refuses an older Node). */
const nodeApi = 10;
/** What was made with other paths in mind must come out the same. */
const reproducible = ["-ffile-prefix-map=.=holdfast", "-Wl,--build-id=none"];

/** systemd/notify.c, a second's work. */
export async function notifyModule(target: Target): Promise<string> {
  const source = readFileSync("systemd/notify.c", "utf8");
  const flags = ["-O2", "-fPIC", "-shared", "-s", "-Wall", "-Wextra", "-Werror", ...reproducible];
  const compiler = `${target.triplet}-gcc`;
  return cached(
    `notify-${target.name}.node`,
    [source, ...flags, await versionOf(compiler)],
    async (path) => {
      await run(compiler, [...flags, `-I${headers}`, "-o", path, "systemd/notify.c"]);
    },
  );
}

/** The package's own build where it has one, else compiled here: a minute and a half. */
export async function sqliteModule(target: Target): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(sqlitePackage, "package.json"), "utf8")) as {
    version: string;
  };
  const name = `better-sqlite3-${target.name}.node`;
  if (target.prebuilt === null) return cached(name, await sqliteInputs(target, version), compile);
  const prebuilt = join(sqlitePackage, "prebuilds", `${target.prebuilt}.node`);
  return cached(name, [version, digestOf(prebuilt)], async (path) => {
    await run(`${target.triplet}-strip`, ["--strip-unneeded", "-o", path, prebuilt]);
  });

  async function compile(path: string): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-build-"));
    try {
      await compileSqlite(target, folder);
      await rename(join(folder, "module.node"), path).catch(async () => {
        await run("cp", [join(folder, "module.node"), path]);
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  }
}

async function sqliteInputs(target: Target, version: string): Promise<string[]> {
  return [
    version,
    ...compileFlags,
    ...definitions(),
    await versionOf(`${target.triplet}-gcc`),
    digestOf(join(sqlitePackage, "deps/sqlite3/sqlite3.c")),
  ];
}

/** -Os: half the time to compile of -O2, and the journal waits for the disk, not for SQLite. */
const compileFlags = ["-Os", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", ...reproducible];

async function compileSqlite({ triplet }: Target, folder: string): Promise<void> {
  const options = { cwd: sqlitePackage };
  const sqlite = "deps/sqlite3";
  const [c, binding] = [join(folder, "sqlite3.o"), join(folder, "binding.o")];
  await Promise.all([
    run(
      `${triplet}-gcc`,
      [
        ...words("-std=c99 -w"),
        ...compileFlags,
        ...definitions(),
        ...words(`-I${sqlite} -c ${sqlite}/sqlite3.c -o`),
        c,
      ],
      options,
    ),
    run(
      `${triplet}-g++`,
      [
        ...words("-std=c++20 -w"),
        ...compileFlags,
        ...words("-fno-exceptions -fno-rtti"),
        ...words(`-fvisibility-inlines-hidden -DNAPI_VERSION=${nodeApi}`),
        ...words("-DNAPI_DISABLE_CPP_EXCEPTIONS -DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"),
        ...words("-DNODE_GYP_MODULE_NAME=better_sqlite3 -DBUILDING_NODE_EXTENSION"),
        `-I${headers}`,
        ...words(`-I../node-addon-api -I${sqlite}`),
        ...words("-c src/better_sqlite3.cpp -o"),
        binding,
      ],
      options,
    ),
  ]);
  await run(`${triplet}-g++`, [
    ...words("-shared -Os -Wl,-Bsymbolic -Wl,--exclude-libs,ALL -Wl,--gc-sections"),
    ...reproducible,
    ...words("-static-libgcc -s -o"),
    join(folder, "module.node"),
    binding,
    c,
    ...words("-lpthread -ldl -lm"),
  ]);
}

/** As binding.gyp has them, whose file is a Python literal with comments. */
function definitions(): string[] {
  const text = readFileSync(join(sqlitePackage, "deps/defines.gypi"), "utf8");
  const list = /'defines':\s*\[([^\]]*)\]/.exec(text)?.[1] ?? "";
  const defines = [...list.matchAll(/'([^']+)'/g)].map((match) => `-D${match[1]}`);
  if (defines.length === 0) throw new Error("deps/defines.gypi of better-sqlite3 has changed");
  return defines;
}

export interface Runtime {
  readonly version: string;
  readonly program: string;
  /** The text of its licences. */
  readonly licence: string;
}

/** Node as its npm package has it, checked against the lock file, without its symbols. */
export async function runtime(target: Target): Promise<Runtime | null> {
  const name = target.runtime;
  if (name === null) return null;
  const { version, integrity } = lockedPackage(name);
  const archive = await cached(`${name}.tgz`, [version, integrity], async (path) => {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-build-"));
    try {
      const packed = ["pack", `${name}@${version}`, "--silent", "--pack-destination", folder];
      const file = (await run("npm", packed)).trim();
      const found = `sha512-${digestOf(join(folder, file), "sha512", "base64")}`;
      if (found !== integrity) throw new Error(`${name}@${version} is not what the lock file says`);
      await run("cp", [join(folder, file), path]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
  const program = await cached(`${name}-stripped`, [version, integrity], async (path) => {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-build-"));
    try {
      await run("tar", ["-xzf", resolve(archive), "package/bin/node"], { cwd: folder });
      await run(`${target.triplet}-strip`, ["-o", path, join(folder, "package/bin/node")]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
  const licence = await run("tar", ["-xzOf", archive, "package/LICENSE"]);
  return { version, program, licence };
}

export function lockedPackage(name: string): { version: string; integrity: string } {
  const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as {
    packages: Record<string, { version: string; integrity: string } | undefined>;
  };
  const found = lock.packages[`node_modules/${name}`];
  if (found === undefined) throw new Error(`The lock file has no ${name}`);
  return found;
}

function digestOf(path: string, algorithm = "sha256", encoding: "hex" | "base64" = "hex"): string {
  return createHash(algorithm).update(readFileSync(path)).digest(encoding);
}

async function versionOf(compiler: string): Promise<string> {
  return (await run(compiler, ["--version"])).split("\n")[0] ?? "";
}

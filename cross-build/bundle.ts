/**
 * The program as it is shipped: one file for the main thread, one for each other thread, without node_modules. Names are
 * kept and lines are short, so that a stack trace from the field can be read; an error in a file of one long line would
 * put all of it into the log.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build as tsup } from "tsup";

type Options = Exclude<Parameters<typeof tsup>[0], (...args: never[]) => unknown>;
type EsbuildPlugin = NonNullable<Options["esbuildPlugins"]>[number];

/** The threads' files stand beside the one that starts them (`threadFile` in src/core/threads.ts). */
export const threadEntries = {
  worker: "src/journal/worker.ts",
  "sqlite-worker": "src/state/sqlite-worker.ts",
  "isolated-worker": "src/processor/isolated-worker.ts",
} as const;

/** Columns after which a line is broken where it can be. */
const lineMax = 160;

/** Packages in CommonJS call `require` and `__dirname`, which an ES module has not. */
const banner = [
  'import { createRequire as holdfastRequire } from "node:module";',
  "const require = holdfastRequire(import.meta.url);",
  "const __dirname = import.meta.dirname;",
  "const __filename = import.meta.filename;",
].join("\n");

/** better-sqlite3 looks for its native module in a package that is no longer there: it lies beside the bundle. */
const nativeBeside: EsbuildPlugin = {
  name: "native-beside",
  setup(build) {
    build.onLoad({ filter: /better-sqlite3[\\/]lib[\\/]binding\.js$/ }, () => ({
      // Not `require("…")` itself: that file would have to be there while the bundle is made.
      contents: 'const load = require; exports.getBinding = () => load("./better_sqlite3.node");',
      loader: "js",
    }));
  },
};

export interface Bundle {
  readonly folder: string;
  /** Its files' names. */
  readonly files: readonly string[];
  /** Folders of the packages that are in it, sorted. */
  readonly packages: readonly string[];
}

export async function bundleAgent(folder: string): Promise<Bundle> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const entry = { holdfast: "src/main.ts", ...threadEntries };
  await tsup({
    ...shared,
    entry,
    outDir: folder,
    noExternal: [/.*/],
    splitting: false,
    metafile: true,
    banner: { js: banner },
    esbuildPlugins: [nativeBeside],
    esbuildOptions(options) {
      options.minifyWhitespace = true;
      options.minifySyntax = true;
      options.lineLimit = lineMax;
      options.legalComments = "none";
    },
  });
  // It is started by the launcher, with the Node beside it, and is no program by itself.
  const main = join(folder, "holdfast.js");
  writeFileSync(main, readFileSync(main, "utf8").replace(/^#!.*\n/, ""), { mode: 0o644 });
  const metafile = join(folder, "metafile-esm.json");
  const { inputs } = JSON.parse(readFileSync(metafile, "utf8")) as { inputs: object };
  rmSync(metafile);
  return {
    folder,
    files: Object.keys(entry).map((name) => `${name}.js`),
    packages: packagesOf(Object.keys(inputs)),
  };
}

export const shared = {
  config: false,
  format: "esm",
  platform: "node",
  target: "node24",
  removeNodeProtocol: false,
  silent: true,
  dts: false,
} as const satisfies Options;

function packagesOf(inputs: readonly string[]): string[] {
  const folders = inputs.flatMap((input) => {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    return match?.[1] === undefined ? [] : [match[1].replace(/^.*?:/, "")];
  });
  return [...new Set(folders)].sort();
}

/** What makes `.js` an ES module, and says the version. */
export function writePackageFile(folder: string, version: string): void {
  const words = { name: "holdfast", version, private: true, type: "module" };
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(words)}\n`);
}

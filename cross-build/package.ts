/**
 * The npm package: `npm pack` calls this before it packs (prepack) and after it (postpack). Node does not strip types below
 * node_modules, so the package holds JavaScript and declarations; its package.json is not the checkout's, which runs
 * the sources and brings a Node of its own. The checkout's waits in dist meanwhile, also if packing is cut off.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync, copyFileSync } from "node:fs";
import { build as tsup } from "tsup";
import { shared, threadEntries } from "./bundle.ts";
import { run } from "./shell.ts";

const folder = "dist/npm";
const own = "dist/package.json.own";

/** What only the checkout needs. */
const ours: ReadonlySet<string> = new Set([
  "scripts",
  "devDependencies",
  "optionalDependencies",
  "overrides",
]);

async function prepare(): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  await tsup({
    ...shared,
    entry: { main: "src/main.ts", index: "src/index.ts", ...threadEntries },
    outDir: folder,
    // What both sides of it use is there once; its dependencies are installed beside it.
    splitting: true,
    treeshake: false,
  });
  const tsc = ["node_modules/typescript/bin/tsc", "--project", "cross-build/types.json"];
  await run(process.execPath, [...tsc, "--outDir", `${folder}/types`]);
  // A cut off `npm pack` has left the other one in its place.
  if (!existsSync(own)) copyFileSync("package.json", own);
  const checkout = JSON.parse(readFileSync(own, "utf8")) as Record<string, unknown>;
  const packed = {
    ...Object.fromEntries(Object.entries(checkout).filter(([field]) => !ours.has(field))),
    bin: { holdfast: `${folder}/main.js` },
    exports: {
      ".": { types: `./${folder}/types/index.d.ts`, default: `./${folder}/index.js` },
      "./package.json": "./package.json",
    },
    files: [folder, "device"],
  };
  writeFileSync("package.json", `${JSON.stringify(packed, null, 2)}\n`);
}

function restore(): void {
  if (existsSync(own)) renameSync(own, "package.json");
}

if (process.argv[2] === "restore") restore();
else await prepare();

/** `npm run bench -- NAME…`: runs test/bench/NAME.ts; all of them when none is named. */
import { globSync } from "node:fs";
import { basename } from "node:path";

const all = globSync("test/bench/*.ts")
  .map((file) => basename(file, ".ts"))
  .filter((name) => name !== "run")
  .sort();
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`No bench is called ${unknown.join(", ")}; there is ${all.join(", ")}\n`);
  process.exitCode = 2;
} else {
  for (const name of wanted.length > 0 ? wanted : all) {
    const { run } = (await import(`./${name}.ts`)) as { run: () => Promise<void> };
    await run();
  }
}

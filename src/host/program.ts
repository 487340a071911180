/** What this program calls itself. */
import { existsSync, readFileSync } from "node:fs";

/** As the nearest package.json says: the checkout's, the package's, or the one beside a bundle. */
export function programVersion(): string {
  let file = new URL("./package.json", import.meta.url);
  while (!existsSync(file) && file.pathname !== "/package.json")
    file = new URL("../package.json", file);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

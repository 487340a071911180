/** Loads a handler module: the one place where a user's own code enters. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { Handler } from "./processor.ts";

/**
 * The default export of the module at `path`, which is relative to `baseDir`, the configuration file's folder.
 * @throws HoldfastError HANDLER_INVALID
 */
export async function loadHandler(path: string, baseDir: string): Promise<Handler> {
  const file = resolve(baseDir, path);
  const found = statSync(file, { throwIfNoEntry: false });
  if (found === undefined) throw invalid(`Cannot load handler ${file}: no such file`);
  // A module is loaded once for each name: one that was changed before a reload goes by another.
  const url = `${pathToFileURL(file).href}?changed=${found.mtimeMs}`;
  let module: { readonly default?: unknown };
  try {
    module = (await import(url)) as { readonly default?: unknown };
  } catch (cause) {
    throw invalid(`Cannot load handler ${file}: ${messageOf(cause)}`, cause);
  }
  if (typeof module.default !== "function") {
    const type = module.default === undefined ? "missing" : `of type ${typeof module.default}`;
    throw invalid(`Cannot use handler ${file}: its default export is ${type}, not a function`);
  }
  return module.default as Handler;
}

function invalid(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("HANDLER_INVALID", message, { cause });
}

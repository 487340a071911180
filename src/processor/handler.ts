/** Loads a handler module: the one place where a user's own code enters. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { BatchHandler, Handler } from "./processor.ts";

/**
 * The default export of the module at `path`, which is relative to `baseDir`, the configuration file's folder.
 * @throws HoldfastError HANDLER_INVALID
 */
export async function loadHandler(path: string, baseDir: string): Promise<Handler | BatchHandler> {
  const file = fileOfHandler(path, baseDir);
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) throw invalid(`Cannot load handler ${file}: no such file`);
  // A module is loaded once for each name: one that was changed before a reload goes by another.
  const url = `${pathToFileURL(file).href}?changed=${stat.mtimeMs}`;
  let module: { readonly default?: unknown };
  try {
    module = (await import(url)) as { readonly default?: unknown };
  } catch (cause) {
    throw invalid(`Cannot load handler ${file}: ${messageOf(cause)}`, cause);
  }
  const found = module.default;
  if (typeof found === "function") return found as Handler;
  if (isBatchHandler(found)) return found;
  const what = found === undefined ? "missing" : `of type ${typeof found}`;
  const wanted = "not a function, nor an object with a function batch";
  throw invalid(`Cannot use handler ${file}: its default export is ${what}, ${wanted}`);
}

export function fileOfHandler(path: string, baseDir: string): string {
  return resolve(baseDir, path);
}

function isBatchHandler(value: unknown): value is BatchHandler {
  if (typeof value !== "object" || value === null || !("batch" in value)) return false;
  return typeof value.batch === "function";
}

function invalid(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("HANDLER_INVALID", message, { cause });
}

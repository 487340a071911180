/**
 * What the library says where it was given no log: warnings and errors as Node's process warnings, which go to stderr
 * and can be listened to (https://nodejs.org/api/process.html#event-warning); nothing else.
 */
import type { Log, LogFields } from "../core/context.ts";

export function defaultLog(): Log {
  const warn = (message: string, fields?: LogFields): void => {
    const detail = fields === undefined ? {} : { detail: JSON.stringify(fields) };
    process.emitWarning(message, { type: "Holdfast", ...detail });
  };
  return { debug: () => undefined, info: () => undefined, warn, error: warn };
}

/** Dotted paths into a payload: `place.floor`. A name with a dot in it cannot be reached. */

export type PayloadPath = readonly string[];

export function pathOf(path: string): PayloadPath {
  return path.split(".");
}

/** What stands at `path`; undefined: nothing does. Inherited properties are none of the payload's. */
export function valueAt(value: unknown, path: PayloadPath): unknown {
  let found = value;
  for (const name of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name))
      return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

/** A copy of `value` with `put` at `path`; maps that are missing on the way are made. `value` itself stays. */
export function withValueAt(
  value: Readonly<Record<string, unknown>>,
  path: PayloadPath,
  put: unknown,
): Record<string, unknown> {
  const [name = "", ...rest] = path;
  const copy = { ...value };
  if (rest.length === 0) return assign(copy, name, put);
  const below = Object.hasOwn(copy, name) ? copy[name] : undefined;
  return assign(copy, name, withValueAt(isMap(below) ? below : {}, rest, put));
}

/** A copy of `value` without what stands at `path`. */
export function withoutValueAt(
  value: Readonly<Record<string, unknown>>,
  path: PayloadPath,
): Record<string, unknown> {
  const [name = "", ...rest] = path;
  const copy = { ...value };
  const below = Object.hasOwn(copy, name) ? copy[name] : undefined;
  if (rest.length === 0) delete copy[name];
  else if (isMap(below)) assign(copy, name, withoutValueAt(below, rest));
  return copy;
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A sender may name a field `__proto__`: that is a name like any other. */
function assign(
  map: Record<string, unknown>,
  name: string,
  value: unknown,
): Record<string, unknown> {
  Object.defineProperty(map, name, {
    value,
    enumerable: true,
    configurable: true,
    writable: true,
  });
  return map;
}

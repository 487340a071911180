/**
 * What a key with nothing after it means, which YAML reads as null.
 *
 * A section or group whose lines are all commented out is an empty one, so that its members take their defaults and
 * those that are required are missed. Anywhere else nothing stays nothing, and is told as such: a blank `token:` must
 * not turn into "no token", nor a source without a body into no source.
 */
import type { AnyField } from "../core/field.ts";
import { memberAt, settled } from "./finding.ts";

/** Nesting of our deepest option is 8; anchors that hold themselves have no end. */
const depthMax = 64;

/** @throws RangeError when `value` is nested deeper than any configuration */
export function fillBlanks(value: unknown, field: AnyField | undefined, depth = 0): unknown {
  if (depth > depthMax) throw new RangeError("The value is nested too deep");
  if (value === null || value === undefined) {
    return field !== undefined && takesMap(settled(field, value)) ? {} : value;
  }
  if (typeof value !== "object") return value;
  const filled = (member: unknown, key: string): unknown =>
    fillBlanks(member, field && memberAt(field, value, key), depth + 1);
  if (Array.isArray(value)) return value.map((item, index) => filled(item, String(index)));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, filled(item, key)]));
}

function takesMap({ about: { fields, kinds, each, schema } }: AnyField): boolean {
  const isMapOf = each !== undefined && schema["type"] !== "array";
  return fields !== undefined || kinds !== undefined || isMapOf;
}

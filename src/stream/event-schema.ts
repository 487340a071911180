/**
 * What an event must be, told by a schema of superstruct's, or by anything that has `parse` (zod, valibot's and others).
 *
 * PSPF's encoding cannot tell the text `12345` from the number: what was read is tried first; where the schema refuses
 * a field, what else its text may mean is tried in its place, each once.
 */
import type { Struct } from "superstruct";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { excerptOf } from "../core/excerpt.ts";
import type { IncomingEvent } from "../wire/wire.ts";

// A struct's second parameter says how it was made; it has no bearing on what it accepts.
// oxlint-disable-next-line typescript/no-explicit-any
export type Schema<T> = Struct<T, any> | { parse(value: unknown): T };

/** How many readings of one event are tried: a few fields, not all combinations. */
const readingsMax = 64;

interface Refusal {
  readonly field: string | null;
  readonly reason: string;
}

/** @throws HoldfastError EVENT_INVALID, naming the field */
export function checkEvent<T>(schema: Schema<T>, event: IncomingEvent): T {
  let value = event.payload;
  const left = new Map<string, unknown[]>();
  let first: Refusal | null = null;
  for (let reading = 0; reading < readingsMax; reading += 1) {
    const outcome = tryCheck(schema, value);
    if ("value" in outcome) return outcome.value;
    first ??= outcome.refusal;
    const { field } = outcome.refusal;
    if (field === null || typeof value !== "object" || value === null) break;
    let others = left.get(field);
    if (others === undefined) left.set(field, (others = [...event.alternatives(field)]));
    if (others.length === 0) break;
    value = { ...value, [field]: others.shift() };
  }
  throw new HoldfastError("EVENT_INVALID", first?.reason ?? "It does not fit the schema");
}

/** What `emit` is given. @throws HoldfastError EVENT_INVALID, naming the field */
export function checkOutgoing<T>(schema: Schema<T>, payload: unknown): T {
  const outcome = tryCheck(schema, payload);
  if ("value" in outcome) return outcome.value;
  throw new HoldfastError("EVENT_INVALID", outcome.refusal.reason);
}

function tryCheck<T>(schema: Schema<T>, value: unknown): { value: T } | { refusal: Refusal } {
  try {
    if ("parse" in schema) return { value: schema.parse(value) };
    const [error, checked] = schema.validate(value, { coerce: true });
    if (error === undefined) return { value: checked };
    const path = error.path.map(String);
    const found = excerptOf(error.value);
    const at = path.length > 0 ? `${path.join(".")}: ` : "";
    const expected = error.type === "never" ? "no such field" : error.type;
    return {
      refusal: { field: path[0] ?? null, reason: `${at}found ${found}, expected ${expected}` },
    };
  } catch (thrown) {
    // superstruct prints the value into its message, and `{ "toString": [] }` cannot be printed.
    const path = pathOf(thrown);
    const at = path.length > 0 ? `${path.join(".")}: ` : "";
    return { refusal: { field: path[0] ?? null, reason: `${at}${messageOf(thrown)}` } };
  }
}

/** The path of the first issue, as zod and its like tell it. */
function pathOf(thrown: unknown): string[] {
  const issues = (thrown as { issues?: unknown } | null)?.issues;
  if (!Array.isArray(issues)) return [];
  const path = (issues[0] as { path?: unknown } | undefined)?.path;
  return Array.isArray(path) ? path.map(String) : [];
}

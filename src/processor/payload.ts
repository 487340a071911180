/** What steps read out of an event, and what they say when it is not there. */
import { HoldfastError } from "../core/errors.ts";
import { integer, text, type Field } from "../core/field.ts";
import { isMap, pathOf, valueAt, type PayloadPath } from "../core/path.ts";
import { stateKeyMax } from "../state/state.ts";
import type { Event } from "./processor.ts";

/** The option that names a field of the payload. */
export function fieldOption(doc: string, example = "temperature"): Field<string> {
  return text({ doc, example });
}

/** The option that says what a step tells events apart by. */
export function byOption(): Field<string> {
  return text({
    doc: `What it goes by: key (the event's key), or a path into the payload; ${stateKeyMax} characters at most`,
    default: "key",
  });
}

/** How many rows a step remembers unless it is told otherwise: 10,000 of about 100 bytes are a megabyte. */
export const rowsStandard = 10_000;
export const rowsMost = 100_000;

/** The option that bounds what a step remembers. */
export function keysOption(): Field<number> {
  return integer({
    doc: "The most keys that it remembers",
    default: rowsStandard,
    min: 1,
    max: rowsMost,
  });
}

/** The longest text that a step keeps of an event. */
export const keptTextMax = 1_024;
/** What a step may make of one event, fields in all. */
export const fieldsMax = 1_000_000;

/**
 * Tells what an event is grouped by; null: it has nothing of the kind.
 * @throws HoldfastError HANDLER_FAILED, the function that it gives, when the key has more than `stateKeyMax` characters:
 * a table of 100,000 rows must stay what memory can hold
 */
export function keyReader(by: string): (event: Event) => string | null {
  if (by === "key") return (event) => (event.key === null ? null : bounded(event.key, by));
  const path = pathOf(by);
  return (event) => {
    const found = valueAt(event.payload, path);
    if (found === undefined || found === null) return null;
    return bounded(typeof found === "string" ? found : JSON.stringify(found), by);
  };
}

function bounded(key: string, by: string): string {
  if (key.length <= stateKeyMax) return key;
  throw failed(
    `What a step goes by has ${stateKeyMax} characters at most: ${by} has ${key.length}`,
  );
}

/** The key as a table's: an event without one stands with all others that have none. */
export function rowKeyOf(key: string | null): string {
  return key === null ? "-" : `=${key}`;
}

/** @throws HoldfastError HANDLER_FAILED when the payload is no JSON object */
export function mapIn(event: Event, step: string): Record<string, unknown> {
  if (isMap(event.payload) && !(event.payload instanceof Uint8Array)) return event.payload;
  throw failed(`Step ${step} asks for a payload that is a JSON object`);
}

/**
 * The number at a path; undefined where there is nothing, or null.
 * @throws HoldfastError HANDLER_FAILED when something else stands there
 */
export function numberIn(event: Event, path: PayloadPath, step: string): number | undefined {
  const found = valueAt(event.payload, path);
  if (found === undefined || found === null) return undefined;
  if (typeof found === "number") return found;
  throw failed(`Step ${step} asks for a number in ${path.join(".")}: it is ${typeof found}`);
}

export function failed(message: string): HoldfastError {
  return new HoldfastError("HANDLER_FAILED", message);
}

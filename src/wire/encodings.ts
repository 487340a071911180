/**
 * The encodings: `pspf` is what Python's PSPF writes and reads, one field for each key of the payload; `compact` keeps
 * the payload as one JSON text. Both are read wherever they stand, and so is what an agent has projected
 * (projected.ts).
 */
import { HoldfastError } from "../core/errors.ts";
import type { Encoding, Fields, IncomingEvent } from "./wire.ts";
import { compact, isCompact } from "./compact.ts";
import { decodeProjected, isProjected } from "./projected.ts";
import { pspf } from "./pspf.ts";

/** The largest event, bytes: 1 MiB, as in the agent. */
export const eventBytesMax = 1024 * 1024;
/** The most fields of one entry: what a server-side script can write, by far, and more than an event is worth. */
export const fieldsMax = 1_000;

export const encodings: Readonly<Record<"pspf" | "compact", Encoding>> = { pspf, compact };

/** Any entry, whichever encoding wrote it. @throws HoldfastError EVENT_MALFORMED */
export function decodeEntry(fields: Fields): IncomingEvent {
  if (isProjected(fields)) return decodeProjected(fields);
  return isCompact(fields) ? compact.decode(fields) : pspf.decode(fields);
}

/**
 * Bytes of an event on its way out. One that is too large is refused before it stands beside others in a batch.
 * @throws HoldfastError EVENT_TOO_LARGE
 */
export function sizeOf(fields: readonly (string | Uint8Array)[], topic: string): number {
  let bytes = 0;
  for (const value of fields) bytes += Buffer.byteLength(value);
  const count = fields.length / 2;
  if (bytes <= eventBytesMax && count <= fieldsMax) return bytes;
  const why =
    count > fieldsMax
      ? `has ${count} fields: at most ${fieldsMax} fit into an entry; use encoding "compact"`
      : `has ${bytes} bytes: at most ${eventBytesMax} are allowed`;
  throw new HoldfastError("EVENT_TOO_LARGE", `An event for ${topic} ${why}`);
}

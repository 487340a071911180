/**
 * The encodings: `pspf` is what Python's PSPF writes and reads, one field for each key of the payload; `compact` keeps
 * the payload as one JSON text. Both are read wherever they stand.
 */
import type { Encoding, Fields, IncomingEvent } from "./wire.ts";
import { compact, isCompact } from "./wire-compact.ts";
import { pspf } from "./wire-pspf.ts";

export const encodings: Readonly<Record<"pspf" | "compact", Encoding>> = { pspf, compact };

/** Any entry, whichever encoding wrote it. @throws HoldfastError EVENT_MALFORMED */
export function decodeEntry(fields: Fields): IncomingEvent {
  return isCompact(fields) ? compact.decode(fields) : pspf.decode(fields);
}

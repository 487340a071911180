/**
 * How an event lies in a stream's entry. There are two encodings, and both are read wherever they stand: `pspf` is
 * what Python's PSPF writes and reads, one field for each key of the payload; `compact` keeps the payload as one JSON
 * text, half as large and four times as fast.
 */
import { HoldfastError } from "../core/errors.ts";
import { compact, isCompact } from "./wire-compact.ts";
import { pspf } from "./wire-pspf.ts";

/** An entry's fields as they lie in the stream: name, value, name, value … */
export type Fields = readonly Uint8Array[];

/** W3C trace context as it travels with an event. */
export interface TraceHeaders {
  readonly traceparent?: string;
  readonly tracestate?: string;
}

/** An event before its encoding. */
export interface OutgoingEvent {
  readonly id: string;
  readonly type: string;
  /** ms since 1970-01-01 UTC. */
  readonly time: number;
  readonly key: string | null;
  readonly payload: unknown;
  readonly trace: TraceHeaders;
}

/** An event as it was read; null where the entry does not say. */
export interface IncomingEvent {
  readonly id: string | null;
  readonly type: string | null;
  readonly time: number | null;
  readonly key: string | null;
  readonly payload: unknown;
  readonly trace: TraceHeaders;
  /** What else the text of a payload's field may mean, best first, for a schema that refuses what was read. */
  alternatives(field: string): readonly unknown[];
}

export interface Encoding {
  /** Name, value, name, value … @throws HoldfastError EVENT_INVALID, naming the field */
  encode(event: OutgoingEvent): string[];
  /** @throws HoldfastError EVENT_MALFORMED, naming the field */
  decode(fields: Fields): IncomingEvent;
}

export const encodings: Readonly<Record<"pspf" | "compact", Encoding>> = { pspf, compact };

/** Any entry, whichever encoding wrote it. @throws HoldfastError EVENT_MALFORMED */
export function decodeEntry(fields: Fields): IncomingEvent {
  return isCompact(fields) ? compact.decode(fields) : pspf.decode(fields);
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws HoldfastError EVENT_MALFORMED when the bytes are no UTF-8 */
export function textOf(bytes: Uint8Array, field: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new HoldfastError("EVENT_MALFORMED", `Field ${field} is no UTF-8`, { cause });
  }
}

/** ISO 8601 with its zone. @throws HoldfastError EVENT_INVALID */
export function isoTime(ms: number): string {
  try {
    return new Date(ms).toISOString();
  } catch (cause) {
    throw new HoldfastError("EVENT_INVALID", `time: found ${ms}, expected ms since 1970`, {
      cause,
    });
  }
}

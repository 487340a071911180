/**
 * How an event lies in a stream's entry: the contract of an encoding (encodings.ts has the list).
 */
import { HoldfastError } from "../core/errors.ts";

/** An entry's fields as they lie in the stream: name, value, name, value … */
export type Fields = readonly Uint8Array[];

/** An entry's fields on their way out: name, value, name, value … */
export type EncodedFields = readonly (string | Uint8Array)[];

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

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws HoldfastError EVENT_MALFORMED when the bytes are no UTF-8 */
export function textOf(bytes: Uint8Array, field: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new HoldfastError("EVENT_MALFORMED", `Field ${field} is no UTF-8`, { cause });
  }
}

let [lastMs, lastText] = [Number.NaN, ""];

/** ISO 8601 with its zone. @throws HoldfastError EVENT_INVALID */
export function isoTime(ms: number): string {
  // Of a burst many are of one millisecond.
  if (ms === lastMs) return lastText;
  try {
    lastText = new Date(ms).toISOString();
    lastMs = ms;
    return lastText;
  } catch (cause) {
    throw new HoldfastError("EVENT_INVALID", `time: found ${ms}, expected ms since 1970`, {
      cause,
    });
  }
}

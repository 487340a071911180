/**
 * The one record that everything here is about. See ARCHITECTURE.md for the glossary.
 *
 * An event's payload is bytes everywhere except inside processors: bytes cost nothing to carry, and what a
 * sender wrote goes upstream as the sender wrote it.
 */

/** Flat text pairs beside the payload: the MQTT topic and what it matched, `dup`, `traceparent`. */
export type Headers = Readonly<Record<string, string>>;

/**
 * How far a wall-clock reading can be trusted: `unsynced` before the first time sync of this boot, `synced`
 * after it, `provisional` when a wait for the sync was given up (invariant 9).
 */
export type ClockQuality = "unsynced" | "synced" | "provisional";

/** An event before it has a place in its stream. */
export interface NewEvent {
  /** What orders events against each other (invariant 10); null: no order is asked for. */
  readonly key: string | null;
  /** Event time, ms since 1970-01-01 UTC. */
  readonly time: number;
  /** When it reached us, ms since 1970-01-01 UTC, by this device's clock. */
  readonly receivedAt: number;
  readonly headers: Headers;
  readonly payload: Uint8Array;
}

/** An event in its place. (`device`, `epoch`, `stream`, `seq`) names it for ever. */
export interface StoredEvent extends NewEvent {
  readonly stream: string;
  /** Position in the stream: dense, counting from 1. */
  readonly seq: number;
  /** The identity of the journal's history at the time of the commit (a UUID). */
  readonly epoch: string;
  readonly clock: ClockQuality;
}

export const noHeaders: Headers = Object.freeze({});

/** How a stream's payload bytes are to be read. */
export type PayloadFormat = "json" | "text" | "bytes";

const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * The most levels of objects and arrays in a JSON payload. `JSON.parse` takes any number; all that walks a value
 * afterwards, `JSON.stringify` among it, goes as deep as the value, and ends with the stack at a few thousand.
 */
export const depthMax = 100;

/**
 * The most characters that the names of one event's fields have in all where each carries those above it (`a.b.c`): 1 MiB,
 * as its payload. One long name above many others would be more than memory holds.
 */
export const nameCharsMax = 1024 * 1024;

/**
 * The payload as a value: JSON parsed, text as a string, bytes as they are.
 * @throws SyntaxError, TypeError or RangeError (`depthMax`) when the bytes are not of that format
 */
export function decodePayload(payload: Uint8Array, format: PayloadFormat): unknown {
  if (format === "bytes") return payload;
  const text = decoder.decode(payload);
  if (format === "text") return text;
  if (isDeep(payload)) throw new RangeError(`it is nested more than ${depthMax} levels deep`);
  return JSON.parse(text) as unknown;
}

const [quote, backslash, bracket, brace, bracketEnd, braceEnd] = Buffer.from('"\\[{]}');

/** Each level takes two bytes, so that most payloads need no look. */
function isDeep(payload: Uint8Array): boolean {
  if (payload.length <= 2 * depthMax) return false;
  let depth = 0;
  let isInText = false;
  for (let at = 0; at < payload.length; at++) {
    const byte = payload[at];
    if (byte === quote) isInText = !isInText;
    else if (isInText) at += byte === backslash ? 1 : 0;
    else if (byte === bracket || byte === brace) depth += 1;
    else if (byte === bracketEnd || byte === braceEnd) depth -= 1;
    if (depth > depthMax) return true;
  }
  return false;
}

/** How the admin API writes events and dead letters. */
import { decodePayload, type PayloadFormat, type StoredEvent } from "../core/event.ts";
import type { DeadLetter } from "../journal/journal.ts";

/** One line of NDJSON for an event, without its line end. */
export function eventLine(device: string, event: StoredEvent, format: PayloadFormat): string {
  const { epoch, stream, seq, time, receivedAt, key, headers, clock } = event;
  const head = JSON.stringify({
    device,
    epoch,
    stream,
    seq,
    time: isoOf(time),
    receivedAt: isoOf(receivedAt),
    clock,
    key,
    headers,
  });
  return `${head.slice(0, -1)},"payload":${payloadText(event.payload, format)}}`;
}

/**
 * A payload as JSON text. JSON goes out as its sender wrote it: parsed and printed again, a number of more than 15
 * digits would be another one. What is not of its format is shown as `{ base64 }`.
 */
function payloadText(payload: Uint8Array, format: PayloadFormat): string {
  try {
    const value = decodePayload(payload, format);
    if (typeof value === "string" && format === "text") return JSON.stringify(value);
    if (format === "json") {
      const text = Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString("utf8");
      return /[\r\n]/.test(text) ? JSON.stringify(value) : text;
    }
  } catch {
    // Not of its format: shown as bytes below.
  }
  return JSON.stringify({ base64: base64Of(payload) });
}

/** A dead letter's payload is shown up to here, bytes: a refused one may be larger than any event. */
const shownBytesMax = 16 * 1024;

export interface DeadLetterJson {
  readonly id: number;
  readonly stream: string;
  readonly seq: number | null;
  readonly origin: string;
  readonly originName: string;
  readonly code: string;
  readonly reason: string;
  readonly attempts: number;
  readonly firstFailedAt: string;
  readonly lastFailedAt: string;
  readonly key: string | null;
  readonly time: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payloadBytes: number;
  /** JSON's value, else text if it is UTF-8, else `{ base64 }`; its beginning where `truncated`. */
  readonly payload: unknown;
  readonly truncated: boolean;
}

export function deadLetterJson(letter: DeadLetter): DeadLetterJson {
  const { payload, ...rest } = letter;
  const truncated = payload.length > shownBytesMax;
  return {
    ...rest,
    firstFailedAt: isoOf(letter.firstFailedAt),
    lastFailedAt: isoOf(letter.lastFailedAt),
    time: isoOf(letter.time),
    payloadBytes: payload.length,
    payload: shownPayload(payload.subarray(0, shownBytesMax)),
    truncated,
  };
}

/** It may be in the queue because it is not of its format: so whatever it can be read as. */
function shownPayload(payload: Uint8Array): unknown {
  for (const format of ["json", "text"] as const) {
    try {
      return decodePayload(payload, format);
    } catch {
      // The next one.
    }
  }
  return { base64: base64Of(payload) };
}

function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

/** A time inside a payload is the sender's and may be anything; beyond ±8.64e15 ms there is no ISO date. */
function isoOf(timeMs: number): string {
  const date = new Date(timeMs);
  return Number.isNaN(date.getTime()) ? String(timeMs) : date.toISOString();
}

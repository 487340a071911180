/** How the admin API writes events and dead letters. */
import { decodePayload, type PayloadFormat, type StoredEvent } from "../core/event.ts";
import type { LetterEdit } from "../core/replay.ts";
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

/**
 * A whole letter as one line, without its end. The payload stands under `payload` where it is JSON (as its sender wrote
 * it), under `payloadText` where it is other UTF-8, else under `payloadBase64`.
 */
export function deadLetterLine(letter: DeadLetter): string {
  const { payload, ...rest } = letter;
  const times = {
    firstFailedAt: isoOf(letter.firstFailedAt),
    lastFailedAt: isoOf(letter.lastFailedAt),
    time: isoOf(letter.time),
  };
  const head = JSON.stringify({ ...rest, ...times }).slice(0, -1);
  for (const format of ["json", "text"] as const) {
    try {
      const value = decodePayload(payload, format);
      const name = format === "json" ? "payload" : "payloadText";
      const text = format === "json" ? payloadText(payload, "json") : JSON.stringify(value);
      return `${head},"${name}":${text}}`;
    } catch {
      // The next one.
    }
  }
  return `${head},"payloadBase64":${JSON.stringify(base64Of(payload))}}`;
}

/** What a line of an export says now; text: what is wrong with it. */
export function editOf(line: string): LetterEdit | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return "it is not JSON";
  }
  if (typeof value !== "object" || value === null) return "it is no object";
  const { id, key, time, headers, ...rest } = value as Record<string, unknown>;
  if (!Number.isSafeInteger(id)) return "id is missing";
  const timeMs = typeof time === "string" ? Date.parse(time) : undefined;
  if (time !== undefined && (timeMs === undefined || Number.isNaN(timeMs)))
    return "time is not in ISO 8601";
  if (key !== undefined && key !== null && typeof key !== "string") return "key is no text";
  if (headers !== undefined && !isTexts(headers)) return "headers are no texts by name";
  const payload = payloadIn(rest, line);
  if (typeof payload === "string") return payload;
  return {
    id: id as number,
    ...(payload !== undefined && { payload }),
    ...(key !== undefined && { key }),
    ...(timeMs !== undefined && { time: timeMs }),
    ...(headers !== undefined && { headers }),
  };
}

function payloadIn(
  rest: Readonly<Record<string, unknown>>,
  line: string,
): Buffer | string | undefined {
  const { payload, payloadText: text, payloadBase64: base64 } = rest;
  if ([payload, text, base64].filter((each) => each !== undefined).length > 1)
    return "payload, payloadText and payloadBase64 exclude each other";
  if (typeof text === "string") return Buffer.from(text);
  if (typeof base64 === "string") return Buffer.from(base64, "base64");
  if (text !== undefined || base64 !== undefined) return "payloadText and payloadBase64 are texts";
  if (payload === undefined) return undefined;
  // It stands last in a line of ours, and a number of more than 15 digits would be another one if it were printed anew.
  const own = line.slice(line.indexOf(',"payload":') + ',"payload":'.length, line.lastIndexOf("}"));
  const isOwn = line.includes(',"payload":') && isSame(own, payload);
  return Buffer.from(isOwn ? own : JSON.stringify(payload));
}

function isSame(text: string, value: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(value);
  } catch {
    return false;
  }
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((each) => typeof each === "string");
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

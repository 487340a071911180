/**
 * How an event of an agent's journal lies in a stream of its plane, for two readers at once:
 *
 *   event_id · event_type · timestamp · the payload's keys …    as PSPF writes them: for any program
 *   seq                                                        its place in the journal's stream
 *   _holdfast                                                  key, times, clock, epoch, headers as JSON
 *   _raw, or base64                                            the payload byte for byte
 *
 * PSPF's fields cannot give an event back as it was (they keep neither the digits of 21.50 nor the spaces), and
 * what a sender wrote goes upstream as the sender wrote it. So the bytes lie beside them, and the agent and our
 * `Stream` read those. This costs memory, which is bounded, and saves the reader's work for each field.
 *
 * - Any valid UTF-8 is `_raw`. What is not becomes `base64`: one bad byte in a field fails PSPF's whole read.
 * - What has no keys (text, numbers, lists, bytes) or cannot be PSPF's (a `payload` that is a number, more than
 *   1,000 keys) is one field `value` with its text; readers take JSON for what it says.
 * - A payload's own `seq` keeps its place, and the entry has no other; an entry's ID tells it as well.
 */
import { isUtf8 } from "node:buffer";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { ClockQuality, Headers, PayloadFormat, StoredEvent } from "../core/event.ts";
import { pspf } from "./pspf.ts";
import { isoTime, textOf, type Fields, type IncomingEvent } from "./wire.ts";

const envelopeField = "_holdfast";
const rawField = "_raw";
const base64Field = "base64";
/** Of the envelope below. */
const version = 1;
/** Lua's stack takes about 8,000 values; beyond this it is no event any more. */
const keysMax = 1_000;

type Envelope = readonly [
  version: number,
  key: string | null,
  time: number,
  receivedAt: number,
  clock: ClockQuality,
  epoch: string,
  headers: Headers,
];

export function encodeProjected(
  event: StoredEvent,
  format: PayloadFormat,
): (string | Uint8Array)[] {
  const { seq, epoch, key, time, receivedAt, clock, headers, payload } = event;
  const text = isUtf8(payload) ? textOf(payload, "payload") : null;
  const fields: (string | Uint8Array)[] = visibleFields(event, text, format);
  if (!hasField(fields, "seq")) fields.push("seq", String(seq));
  const envelope: Envelope = [version, key, time, receivedAt, clock, epoch, headers];
  fields.push(envelopeField, JSON.stringify(envelope).toWellFormed());
  if (text === null) fields.push(base64Field, Buffer.from(payload).toString("base64"));
  else fields.push(rawField, payload);
  return fields;
}

function visibleFields(
  { stream, seq, epoch, time, receivedAt, headers }: StoredEvent,
  text: string | null,
  format: PayloadFormat,
): string[] {
  const { traceparent, tracestate } = headers;
  const head = {
    id: `${epoch}:${stream}:${seq}`,
    type: typeOf(stream),
    time: isDate(time) ? time : receivedAt,
    key: null,
    trace: {
      ...(traceparent !== undefined && { traceparent }),
      ...(tracestate !== undefined && { tracestate }),
    },
  };
  const value = text !== null && format === "json" ? objectIn(text) : null;
  if (value !== null) {
    try {
      const fields = pspf.encode({ ...head, payload: value });
      if (fields.length <= keysMax * 2) return fields;
    } catch (thrown) {
      // What PSPF's encoding does not carry.
      if (!(thrown instanceof HoldfastError)) throw thrown;
    }
  }
  const fields = ["event_id", head.id, "event_type", head.type];
  fields.push("timestamp", isoTime(isDate(head.time) ? head.time : 0));
  // JSON stands as it is, since it says what it is; text may have to be quoted.
  if (text !== null && format === "json") fields.push("value", text);
  else if (text !== null)
    fields.push(...pspf.encode({ ...head, payload: { value: text } }).slice(6));
  return fields;
}

function objectIn(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Text that is not itself JSON, as PSPF asks of an event's type: a stream may be called 7 or true. */
function typeOf(stream: string): string {
  return /^(\d|true$|false$|null$|NaN$|Infinity$)/.test(stream) ? `stream.${stream}` : stream;
}

/** ECMA-262, 21.4.1.1: the times that a Date can hold. */
function isDate(ms: number): boolean {
  return Math.abs(ms) <= 8.64e15;
}

function hasField(fields: readonly (string | Uint8Array)[], name: string): boolean {
  for (let at = 6; at < fields.length; at += 2) if (fields[at] === name) return true;
  return false;
}

const envelopeName = Buffer.from(envelopeField);

export function isProjected(fields: Fields): boolean {
  const name = fields.at(-4);
  return name?.length === envelopeName.length && envelopeName.equals(name);
}

/** @throws HoldfastError EVENT_MALFORMED when somebody else has written the entry */
export function decodeStored(stream: string, seq: number, fields: Fields): StoredEvent {
  const [, key, time, receivedAt, clock, epoch, headers] = envelopeOf(fields);
  const payload = payloadOf(fields);
  return { stream, seq, epoch, clock, key, time, receivedAt, headers, payload };
}

/** As our `Stream` reads it: the payload is what the sender wrote, JSON where it is JSON. */
export function decodeProjected(fields: Fields): IncomingEvent {
  const [, key, time, , , , { traceparent, tracestate }] = envelopeOf(fields);
  const bytes = payloadOf(fields);
  return {
    id: textOf(fields[1] as Uint8Array, "event_id"),
    type: textOf(fields[3] as Uint8Array, "event_type"),
    time,
    key,
    payload: isUtf8(bytes) ? valueIn(textOf(bytes, rawField)) : bytes,
    trace: {
      ...(traceparent !== undefined && { traceparent }),
      ...(tracestate !== undefined && { tracestate }),
    },
    alternatives: () => [],
  };
}

function valueIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function envelopeOf(fields: Fields): Envelope {
  if (!isProjected(fields)) throw malformed("it has no envelope");
  let envelope: unknown;
  try {
    envelope = JSON.parse(textOf(fields.at(-3) as Uint8Array, envelopeField));
  } catch (cause) {
    throw malformed(messageOf(cause));
  }
  if (!Array.isArray(envelope) || envelope[0] !== version) {
    throw malformed(`its version is not ${version}`);
  }
  return envelope as unknown as Envelope;
}

function payloadOf(fields: Fields): Uint8Array {
  const name = textOf(fields.at(-2) as Uint8Array, "last name");
  const value = fields.at(-1) as Uint8Array;
  if (name === rawField) return value;
  if (name === base64Field) return Buffer.from(Buffer.from(value).toString("latin1"), "base64");
  throw malformed(`its last field is ${name}`);
}

function malformed(why: string): HoldfastError {
  return new HoldfastError("EVENT_MALFORMED", `The entry is not as an agent wrote it: ${why}`);
}

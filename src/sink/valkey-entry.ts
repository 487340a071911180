/**
 * An event as an entry of a Valkey stream: its name and time as the encoding's own metadata, its payload as fields.
 *
 * The name is `DEVICE/EPOCH/STREAM/SEQ`, as the entry's event ID; a stream's name and a UUID hold no slash; the epoch of
 * what is sent again on purpose has a generation behind it, `EPOCH.1`. A payload that
 * brings an `event_id` keeps that, and the name is in the field `holdfast_name`. PSPF keeps objects alone, with rules for
 * some of their keys, and an entry has so many fields: what else a payload may be is wrapped, `{ value: … }`, and
 * bytes are `{ base64: … }`. So nothing is refused.
 */
import { isUtf8 } from "node:buffer";
import { HoldfastError } from "../core/errors.ts";
import { decodePayload, type PayloadFormat, type StoredEvent } from "../core/event.ts";
import { encodings } from "../wire/encodings.ts";
import { entryValuesMax } from "./valkey-script.ts";

export type EncodingName = keyof typeof encodings;
type OutgoingEvent = Parameters<(typeof encodings)[EncodingName]["encode"]>[0];

export interface EntryMaker {
  readonly device: string;
  readonly encoding: EncodingName;
  readonly format: PayloadFormat | undefined;
  /** Behind the epoch in the name: nothing, or `.1` and so on. */
  readonly generation: string;
  /** It comes late, beside fresher ones. */
  readonly backfill: boolean;
}

/** Name, value, name, value … */
export function entryOf(event: StoredEvent, maker: EntryMaker): string[] {
  const { device, encoding, backfill, generation } = maker;
  const { epoch, stream, seq, time, key, headers } = event;
  const name = `${device}/${epoch}${generation}/${stream}/${seq}`;
  const payload = valueOf(event.payload, maker.format);
  const isObject = typeof payload === "object" && payload !== null && !Array.isArray(payload);
  const { traceparent, tracestate } = headers;
  const trace = {
    ...(traceparent !== undefined && { traceparent }),
    ...(tracestate !== undefined && { tracestate }),
  };
  const outgoing = { id: name, type: typeOf(stream), time, key, payload, trace };
  const wrapped = { ...outgoing, payload: { value: payload } };
  const fits = encoding === "compact" || isObject;
  let fields = fits ? fieldsOf(outgoing, encoding) : null;
  if (fields === null) fields = encodings[encoding].encode(wrapped);
  else if (encoding === "pspf" && Object.hasOwn(payload as object, "event_id"))
    fields.push("holdfast_name", name);
  if (backfill) fields.push("backfill", "true");
  return fields;
}

/** Null: the encoding does not take it as it is. */
function fieldsOf(event: OutgoingEvent, encoding: EncodingName): string[] | null {
  try {
    const fields = encodings[encoding].encode(event);
    return fields.length <= entryValuesMax ? fields : null;
  } catch (thrown) {
    if (thrown instanceof HoldfastError) return null;
    throw thrown;
  }
}

/** PSPF asks for a type that is not itself JSON; a stream may be called `1` or `true`. */
function typeOf(stream: string): string {
  const isPlain = /^[A-Za-z_]/.test(stream) && !/^(true|false|null|NaN|Infinity)$/.test(stream);
  return isPlain ? stream : `stream-${stream}`;
}

/**
 * What a format may say and a payload may not be (it was changed since) is text, or bytes; so is JSON that no value
 * here can hold, for its depth or for a number beyond all others (1e999).
 */
function valueOf(payload: Uint8Array, format: PayloadFormat | undefined): unknown {
  if (format === "bytes" || !isUtf8(payload))
    return { base64: Buffer.from(payload).toString("base64") };
  const value = format === "text" ? undefined : jsonIn(payload);
  return value === undefined ? decodePayload(payload, "text") : value;
}

function jsonIn(payload: Uint8Array): unknown {
  try {
    const value = decodePayload(payload, "json");
    return holdsInfinity(value) ? undefined : value;
  } catch {
    return undefined;
  }
}

function holdsInfinity(value: unknown): boolean {
  if (typeof value === "number") return !Number.isFinite(value);
  return typeof value === "object" && value !== null && Object.values(value).some(holdsInfinity);
}

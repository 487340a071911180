/**
 * The door of a stream: what does not fit never enters (invariant 8).
 *
 * A payload goes into the journal as the sender wrote it, with two exceptions for JSON: a bare scalar becomes
 * `{ "value": … }`, and what the topic matched becomes a field of an object that lacks it.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { decodePayload, type Headers, type NewEvent, type PayloadFormat } from "../core/event.ts";

/** What a stream asks of its events; schema/schema.ts compiles it from the configuration. */
export interface StreamRules {
  readonly format: PayloadFormat;
  /** Why `value` may not enter, naming the field; null: it may. */
  validate(value: unknown): string | null;
  keyOf(value: unknown, headers: Headers): string | null;
  /** Event time in ms; the time of receipt where the payload tells none. `validate` has passed. */
  timeOf(value: unknown, receivedAt: number): number;
}

/**
 * The largest payload of an event, bytes: 1 MiB. Larger ones would make a commit, a batch and a reader's memory
 * as large; MQTT sources announce it as their maximum packet size.
 */
export const payloadBytesMax = 1024 * 1024;

interface Candidate {
  readonly headers: Headers;
  readonly fields?: readonly string[];
  readonly payload: Uint8Array;
}

/** The event that a message becomes, or why it becomes none. */
export function admit(
  rules: StreamRules,
  message: Candidate,
  receivedAt: number,
): NewEvent | HoldfastError {
  if (message.payload.length > payloadBytesMax) {
    return new HoldfastError(
      "EVENT_TOO_LARGE",
      `Payload has ${message.payload.length} bytes: at most ${payloadBytesMax} are allowed`,
    );
  }
  let value: unknown;
  let payload = message.payload;
  try {
    value = decodePayload(payload, rules.format);
  } catch (cause) {
    const why = `Payload is not ${rules.format}: ${messageOf(cause)}`;
    return new HoldfastError("EVENT_MALFORMED", why, { cause });
  }
  if (rules.format === "json") {
    if (typeof value !== "object" || value === null) {
      payload = wrapScalar(payload);
      value = { value };
    }
    if (message.fields !== undefined && !Array.isArray(value)) {
      payload = addFields(
        payload,
        value as Record<string, unknown>,
        message.fields,
        message.headers,
      );
    }
  }
  const problem = rules.validate(value);
  if (problem !== null)
    return new HoldfastError("EVENT_INVALID", `Payload does not fit: ${problem}`);
  return {
    key: rules.keyOf(value, message.headers),
    time: rules.timeOf(value, receivedAt),
    receivedAt,
    headers: message.headers,
    payload,
  };
}

function wrapScalar(payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from('{"value":'), payload, Buffer.from("}")]);
}

/** Puts the fields that `value` lacks in front of its others, in the value and in the bytes. */
function addFields(
  payload: Uint8Array,
  value: Record<string, unknown>,
  fields: readonly string[],
  headers: Headers,
): Uint8Array {
  const wasEmpty = Object.keys(value).length === 0;
  let added = "";
  for (const name of fields) {
    if (Object.hasOwn(value, name)) continue;
    value[name] = headers[name];
    added += `${added === "" ? "" : ","}${JSON.stringify(name)}:${JSON.stringify(headers[name])}`;
  }
  if (added === "") return payload;
  const brace = payload.indexOf(0x7b);
  return Buffer.concat([
    payload.subarray(0, brace + 1),
    Buffer.from(wasEmpty ? added : `${added},`),
    payload.subarray(brace + 1),
  ]);
}

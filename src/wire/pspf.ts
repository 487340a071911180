/**
 * PSPF's encoding: one field for each key of the payload, so that a Python PSPF worker reads what we emit and we read
 * what it emits. Its rules, as recorded from PSPF itself (test/wire/recorded):
 *
 * - Metadata first: `event_id`, `event_type`, `timestamp` (ISO 8601), PSPF's own also `payload`, `partition`, `offset`;
 *   then the payload's keys; last `traceparent` and `tracestate`.
 * - Text stands as it is, numbers as they print, everything else as JSON text with Python's spaces.
 * - A reader tries JSON on each value and keeps the text where that fails. So text that would be JSON (`12345`, `true`,
 *   `[1]`) is written JSON-quoted. PSPF itself does not quote: what it wrote of such text is a number to any reader, unless
 *   a schema says text (event-schema.ts asks for `alternatives`).
 * - Only valid UTF-8 goes out: one bad byte fails PSPF's whole read.
 */
import { HoldfastError } from "../core/errors.ts";
import { readTime } from "../core/event-time.ts";
import { isoTime, textOf, type Encoding, type IncomingEvent, type TraceHeaders } from "./wire.ts";

/** Fields that PSPF keeps for itself; in a payload they set the metadata and are not read back into one. */
const metadata = new Set(["event_id", "event_type", "timestamp", "traceparent", "tracestate"]);

export const pspf: Encoding = {
  encode({ id, type, time, payload, trace }) {
    if (!isPlainObject(payload)) {
      const why = `Payload is ${shownType(payload)}: PSPF's encoding keeps objects; wrap it, or use encoding "compact"`;
      throw new HoldfastError("EVENT_INVALID", why);
    }
    const kind = payload["event_type"] ?? type;
    if (typeof kind !== "string" || kind === "" || wouldBeJson(kind)) {
      const why = `event_type: found ${typeof kind === "string" ? kind : shownType(kind)}, expected text that is not itself JSON`;
      throw new HoldfastError("EVENT_INVALID", why);
    }
    const own = (name: string, otherwise: string): string =>
      payload[name] === undefined ? otherwise : valueText(payload[name], name);
    const fields = ["event_id", own("event_id", id), "event_type", kind.toWellFormed()];
    fields.push("timestamp", own("timestamp", isoTime(time)));
    for (const name of Object.keys(payload)) {
      const value = payload[name];
      if (metadata.has(name) || value === undefined || typeof value === "function") continue;
      checkReserved(name, value);
      fields.push(name.toWellFormed(), valueText(value, name));
    }
    const traceparent = payload["traceparent"] ?? trace.traceparent;
    const tracestate = payload["tracestate"] ?? trace.tracestate;
    if (typeof traceparent === "string") fields.push("traceparent", traceparent);
    if (typeof tracestate === "string") fields.push("tracestate", tracestate);
    return fields;
  },

  decode(fields): IncomingEvent {
    const payload: Record<string, unknown> = {};
    let [id, type, time]: [string | null, string | null, number | null] = [null, null, null];
    const trace: { traceparent?: string; tracestate?: string } = {};
    for (let at = 0; at + 1 < fields.length; at += 2) {
      const name = textOf(fields[at] as Uint8Array, `${at / 2 + 1}'s name`);
      const text = textOf(fields[at + 1] as Uint8Array, name);
      if (!metadata.has(name)) {
        const value = valueOf(text);
        if (!isEmptyBase(name, value)) define(payload, name, value);
      } else if (name === "event_id") id = plainText(text);
      else if (name === "event_type") type = plainText(text);
      else if (name === "timestamp") time = readTime(valueOf(text));
      else trace[name as keyof TraceHeaders] = text;
    }
    const alternatives = (field: string): readonly unknown[] => {
      for (let at = fields.length - 2; at >= 0; at -= 2) {
        if (textOf(fields[at] as Uint8Array, "name") !== field) continue;
        return readings(textOf(fields[at + 1] as Uint8Array, field), metadata.has(field));
      }
      return [];
    };
    return { id, type, time, key: null, payload, trace, alternatives };
  },
};

/** What a field's text may mean beside what `valueOf` made of it. */
function readings(text: string, isMetadata: boolean): unknown[] {
  const found: unknown[] = [text];
  if (isMetadata || text === "{}" || text === "null") found.push(valueOf(text));
  // Python prints these for numbers that JSON does not know.
  if (text === "NaN" || text === "nan") found.push(Number.NaN);
  if (text === "Infinity" || text === "inf") found.push(Number.POSITIVE_INFINITY);
  if (text === "-Infinity" || text === "-inf") found.push(Number.NEGATIVE_INFINITY);
  return found;
}

/** JSON where it is JSON, else the text itself. */
function valueOf(text: string): unknown {
  if (!mayBeJson(text)) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Text that was perhaps quoted. */
function plainText(text: string): string {
  const value = text.startsWith('"') ? valueOf(text) : text;
  return typeof value === "string" ? value : text;
}

const jsonNumber = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?[ \t\n\r]*$/;
const jsonWord = /^(?:true|false|null)[ \t\n\r]*$/;

/** By the first letter: most text is decided here. What JSON.parse would throw at costs more than all else of an event. */
function mayBeJson(text: string): boolean {
  const letter = text.charCodeAt(0);
  // 0 to 9 and -: dates and IDs begin so too.
  if ((letter >= 0x30 && letter <= 0x39) || letter === 0x2d) return jsonNumber.test(text);
  // true, false, null, and words that begin like them
  if (letter === 0x74 || letter === 0x66 || letter === 0x6e) return jsonWord.test(text);
  return (
    letter === 0x22 || // "
    letter === 0x7b || // {
    letter === 0x5b || // [
    letter === 0x20 || // spaces may stand before
    (letter >= 0x09 && letter <= 0x0d)
  );
}

/** Whether Python's `json.loads` would take it for something else than text. */
function wouldBeJson(text: string): boolean {
  const trimmed = /^[NI\s-]/.test(text) ? text.trim() : text;
  if (trimmed === "NaN" || trimmed === "Infinity" || trimmed === "-Infinity") return true;
  if (!mayBeJson(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function valueText(value: unknown, name: string): string {
  if (typeof value === "string") {
    const text = value.toWellFormed();
    return wouldBeJson(text) ? JSON.stringify(text) : text;
  }
  const given = hasToJson(value) ? value.toJSON() : value;
  if (typeof given === "string") return valueText(given, name);
  try {
    return jsonText(given, name);
  } catch (thrown) {
    if (thrown instanceof HoldfastError) throw thrown;
    throw new HoldfastError("EVENT_INVALID", `${name}: it is nested too deeply`, { cause: thrown });
  }
}

/** JSON as Python's `json.dumps` spaces it. */
function jsonText(value: unknown, name: string): string {
  if (typeof value === "string") return JSON.stringify(value.toWellFormed());
  if (typeof value === "number") {
    if (Number.isFinite(value)) return Object.is(value, -0) ? "-0.0" : String(value);
    throw new HoldfastError("EVENT_INVALID", `${name}: found ${value}, which JSON does not have`);
  }
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map((each) => jsonText(each, name)).join(", ")}]`;
  if (typeof value !== "object") {
    throw new HoldfastError(
      "EVENT_INVALID",
      `${name}: found ${typeof value}, which JSON does not have`,
    );
  }
  if (hasToJson(value)) return jsonText(value.toJSON(), name);
  const members: string[] = [];
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined || typeof member === "function") continue;
    members.push(`${JSON.stringify(key.toWellFormed())}: ${jsonText(member, name)}`);
  }
  return `{${members.join(", ")}}`;
}

/** What PSPF's models ask of their own fields. */
function checkReserved(name: string, value: unknown): void {
  if (name === "payload" && !isPlainObject(value)) {
    const why = `payload: found ${shownType(value)}, expected an object, as PSPF does`;
    throw new HoldfastError("EVENT_INVALID", why);
  }
  if ((name === "partition" || name === "offset") && value !== null && !Number.isInteger(value)) {
    const why = `${name}: found ${shownType(value)}, expected an integer or null, as PSPF does`;
    throw new HoldfastError("EVENT_INVALID", why);
  }
}

/** What PSPF's models write of their base even where nothing was given. */
function isEmptyBase(name: string, value: unknown): boolean {
  if (name === "partition" || name === "offset") return value === null;
  return name === "payload" && isPlainObject(value) && Object.keys(value).length === 0;
}

/** Also where the name is one that objects inherit. */
function define(target: Record<string, unknown>, name: string, value: unknown): void {
  if (name !== "__proto__") target[name] = value;
  else {
    const own = { value, enumerable: true, configurable: true, writable: true };
    Object.defineProperty(target, name, own);
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !hasToJson(value);
}

function hasToJson(value: unknown): value is { toJSON(): unknown } {
  return (
    typeof value === "object" &&
    value !== null &&
    "toJSON" in value &&
    typeof value.toJSON === "function"
  );
}

function shownType(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : typeof value;
}

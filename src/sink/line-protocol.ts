/**
 * Events as lines of InfluxDB's line protocol: MEASUREMENT,TAG=… FIELD=… TIME
 *
 * A line that says the same of the same moment overwrites itself, so a repetition changes nothing. For the same
 * reason two events of one series in one millisecond would be one point: precision `ns` puts the last six digits of
 * the seq below the milliseconds.
 *
 * What the protocol cannot carry: line ends in measurements, tags and keys (a space is written), a backslash at the
 * end of one (left out, as it would escape what follows), empty tags (left out), null and lists.
 */
import { HoldfastError } from "../core/errors.ts";
import {
  decodePayload,
  nameCharsMax,
  type PayloadFormat,
  type StoredEvent,
} from "../core/event.ts";
import { valueAt } from "../core/path.ts";
import { compileTemplate, type Template } from "../core/template.ts";

export interface LineMapping {
  readonly measurement: string;
  /** By name: a template where it has braces, else a path into the payload. */
  readonly tags: Readonly<Record<string, string>>;
  /** By name: a path into the payload; none: all that the payload holds and no tag takes. */
  readonly fields: Readonly<Record<string, string>>;
  /** Names of fields that are written as integers. */
  readonly integers: readonly string[];
  readonly precision: "s" | "ms" | "ns";
}

export interface LineWriter {
  /** The line, without its end; SINK_REFUSED where there is nothing to write. */
  lineOf(event: StoredEvent, format: PayloadFormat | undefined): string | HoldfastError;
}

type TagSource = Template | readonly string[];

export function createLineWriter(mapping: LineMapping, device: string): LineWriter {
  const measurement = compileTemplate(mapping.measurement);
  // A fleet's points must not fall on one another.
  const tags = Object.entries({ device: "{device}", ...mapping.tags }).map(
    ([name, text]): readonly [string, TagSource] => [
      keyText(name),
      text.includes("{") ? compileTemplate(text) : text.split("."),
    ],
  );
  const taken = new Set(Object.values(mapping.tags));
  const fields = Object.entries(mapping.fields).map(
    ([name, path]) => [name, path.split(".")] as const,
  );
  const integers = new Set(mapping.integers);
  const fieldsOf = (payload: unknown): readonly string[] | HoldfastError => {
    const found: Found = { fields: [], chars: 0 };
    if (fields.length === 0) collect(payload, "", taken, integers, found);
    if (found.chars > nameCharsMax)
      return refusal(`Event makes names of more than ${nameCharsMax} characters in all`);
    for (const [name, path] of fields) {
      const text = fieldText(valueAt(payload, path), integers.has(name));
      if (text !== null) found.fields.push(`${keyText(name)}=${text}`);
    }
    return found.fields;
  };
  return {
    lineOf(event, format) {
      const payload = payloadOf(event, format);
      if (payload instanceof HoldfastError) return payload;
      const name = measurement.textFor(event, device);
      if (name instanceof HoldfastError) return name;
      const written = fieldsOf(payload);
      if (written instanceof HoldfastError) return written;
      if (written.length === 0) return refusal("Event has no field to write");
      let line = measurementText(name);
      for (const [key, source] of tags) {
        const value = tagText(source, event, payload, device);
        if (value !== "") line += `,${key}=${value}`;
      }
      return `${line} ${written.join(",")} ${timeText(event, mapping.precision)}`;
    },
  };
}

function payloadOf(event: StoredEvent, format: PayloadFormat | undefined): unknown {
  if (format === "bytes") return refusal("Event is bytes, of which no field can be made");
  try {
    const payload = decodePayload(event.payload, format ?? "json");
    const isObject = typeof payload === "object" && payload !== null && !Array.isArray(payload);
    // As a bare scalar is wrapped on its way in.
    return isObject ? payload : { value: payload };
  } catch {
    return refusal("Event's payload is not of its stream's format");
  }
}

interface Found {
  readonly fields: string[];
  /** Of all names so far. */
  chars: number;
}

/** Everything that a field can hold; names of what lies deeper have dots. Ends early beyond `nameCharsMax`. */
function collect(
  value: unknown,
  prefix: string,
  taken: ReadonlySet<string>,
  integers: ReadonlySet<string>,
  found: Found,
): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return;
  for (const [key, member] of Object.entries(value)) {
    const name = `${prefix}${key}`;
    found.chars += name.length;
    if (found.chars > nameCharsMax) return;
    if (taken.has(name)) continue;
    const text = fieldText(member, integers.has(name));
    if (text !== null) found.fields.push(`${keyText(name)}=${text}`);
    // A payload may be nested deeper; nobody names fields so.
    else if (prefix.split(".").length <= depthMax) {
      collect(member, `${name}.`, taken, integers, found);
    }
  }
}

const depthMax = 8;

/** Null: no field can hold it. */
function fieldText(value: unknown, isInteger: boolean): string | null {
  switch (typeof value) {
    case "number":
      if (!Number.isFinite(value)) return null;
      return isInteger ? `${BigInt(Math.trunc(value))}i` : String(value);
    case "boolean":
      return value ? "true" : "false";
    case "string":
      return `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
    default:
      return null;
  }
}

function tagText(source: TagSource, event: StoredEvent, payload: unknown, device: string): string {
  if ("textFor" in source) {
    const text = source.textFor(event, device);
    return text instanceof HoldfastError ? "" : keyText(text);
  }
  const value = valueAt(payload, source);
  if (typeof value === "string") return keyText(value);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : "";
}

/** A tag's key or value, or a field's key: comma, equals sign and space are escaped. */
function keyText(text: string): string {
  return plainText(text).replaceAll(/[,= ]/g, String.raw`\$&`);
}

function measurementText(text: string): string {
  return plainText(text).replaceAll(/[, ]/g, String.raw`\$&`);
}

function plainText(text: string): string {
  return text.replaceAll(/[\n\r]+/g, " ").replace(/\\+$/, "");
}

const seqDigits = 1_000_000n;

function timeText({ time, seq }: StoredEvent, precision: LineMapping["precision"]): string {
  if (precision === "s") return String(Math.floor(time / 1000));
  const ms = BigInt(Math.trunc(time));
  return String(precision === "ms" ? ms : ms * seqDigits + (BigInt(seq) % seqDigits));
}

function refusal(why: string): HoldfastError {
  return new HoldfastError("SINK_REFUSED", why);
}

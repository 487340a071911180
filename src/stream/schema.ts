/**
 * What a stream asks of its events: declared in the configuration, compiled to the rules of its door.
 *
 * An event costs one walk over the declared fields (about 1 µs); why one does not fit is worked out only then.
 */
import assert from "node:assert/strict";
import { define, is, type, unknown, type Struct } from "superstruct";
import type { Headers, PayloadFormat } from "../core/event.ts";
import {
  boolean,
  duration,
  either,
  group,
  integer,
  listOf,
  mapOf,
  number,
  oneOf,
  optional,
  size,
  text,
  type Infer,
} from "../core/field.ts";

const fieldTypes = ["string", "number", "integer", "boolean", "object", "array", "any"] as const;
const shortTypes = [...fieldTypes, ...fieldTypes.map((name) => `${name}?` as const)] as const;

const isText = (value: unknown): boolean => typeof value === "string";

const schemaField = either(
  oneOf(shortTypes, { doc: "The field's type; with ? it may be missing or null" }),
  group(
    {
      type: oneOf(fieldTypes, { doc: "The field's type" }),
      optional: boolean({ doc: "Whether it may be missing or null", default: false }),
      min: optional(number({ doc: "The least number" })),
      max: optional(number({ doc: "The greatest number" })),
      maxLength: optional(integer({ doc: "The most characters or items" })),
      pattern: optional(
        text({
          doc: "A regular expression that a text must match",
          example: "^[a-z0-9-]+$",
          problem: patternProblem,
        }),
      ),
      enum: optional(
        listOf(
          either(text({ doc: "A text" }), number({ doc: "A number" }), isText, { doc: "A value" }),
          { doc: "The values that are allowed", min: 1 },
        ),
      ),
    },
    { doc: "The field's type and its bounds" },
  ),
  isText,
  { doc: "What one field of the payload must be" },
);

export const streamOptions = group(
  {
    format: oneOf(["json", "text", "bytes"], {
      doc: "How payloads are read; what is not of the format becomes a dead letter",
      default: "json",
    }),
    linger: optional(
      duration({
        doc: "The longest an event of this stream waits for its commit; left out: the journal's",
        example: "20ms",
        max: "1m",
      }),
    ),
    maxBytes: optional(
      size({
        doc: "The most that this stream may hold in the journal; left out: the journal's bound",
        example: "200MiB",
        min: "64KiB",
      }),
    ),
    maxAge: optional(
      duration({
        doc: "What every group has passed is kept this long for replay; left out: the journal's",
        example: "7d",
      }),
    ),
    key: optional(
      text({
        doc: "What orders events against each other: a path into the payload, or topic",
        example: "device",
      }),
    ),
    time: optional(
      text({
        doc: "A path to the event's time (s, ms or ISO 8601) in the payload; left out: time of receipt",
        example: "ts",
      }),
    ),
    schema: optional(
      mapOf(schemaField, {
        doc: "Fields of the payload and their types; what does not fit becomes a dead letter; other fields may be there",
        example: { device: "string", temperature: "number?" },
        // Any name that JSON has, also a dotted path.
        names: /^.{1,256}$/s,
      }),
    ),
  },
  { doc: "What a stream asks of its events" },
);
export type StreamSettings = Infer<typeof streamOptions>;
type FieldSettings = Exclude<Infer<typeof schemaField>, string>;

/** What holds for a stream that the configuration does not declare. */
export function defaultStreamOptions(): StreamSettings {
  return { format: "json" } as StreamSettings;
}

/** What flow/admit.ts asks of a stream. */
export interface CompiledStream {
  readonly format: PayloadFormat;
  /** Why `value` may not enter, naming the field; null: it may. */
  validate(value: unknown): string | null;
  keyOf(value: unknown, headers: Headers): string | null;
  /** Event time in ms; `validate` has passed. */
  timeOf(value: unknown, receivedAt: number): number;
}

export function compileStream(name: string, options: StreamSettings): CompiledStream {
  const fields = Object.entries(options.schema ?? {}).map(([path, settings]) =>
    compileField(path, settings),
  );
  const struct = structOf(fields);
  const [keyPath, timePath] = [pathOf(options.key), pathOf(options.time)];
  const isJson = options.format === "json";
  return {
    format: options.format,
    validate(value) {
      if (!isJson) return null;
      if (fields.length > 0 && !(typeTests.object(value) && is(value, struct)))
        return reasonOf(name, fields, value);
      if (timePath === null) return null;
      const found = valueAt(value, timePath);
      if (found === undefined || found === null || readTime(found) !== null) return null;
      return `${options.time}: found ${shown(found)}, expected a time (s, ms or ISO 8601)`;
    },
    keyOf(value, headers) {
      if (keyPath === null) return null;
      if (options.key === "topic") return headers["topic"] ?? null;
      const found = isJson ? valueAt(value, keyPath) : undefined;
      if (found === undefined || found === null) return null;
      return typeof found === "string" ? found : JSON.stringify(found);
    },
    timeOf(value, receivedAt) {
      if (timePath === null || !isJson) return receivedAt;
      return readTime(valueAt(value, timePath)) ?? receivedAt;
    },
  };
}

interface CompiledField {
  readonly path: readonly string[];
  readonly label: string;
  readonly isOptional: boolean;
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

function compileField(label: string, given: string | FieldSettings): CompiledField {
  const settings = typeof given === "string" ? longForm(given) : given;
  const { min = -Infinity, max = Infinity, maxLength = Infinity } = settings;
  const pattern = settings.pattern === undefined ? null : new RegExp(settings.pattern, "u");
  const allowed = settings.enum === undefined ? null : new Set<unknown>(settings.enum);
  const isOfType = typeTests[settings.type];
  return {
    path: label.split("."),
    label,
    isOptional: settings.optional,
    expected: expectedOf(settings),
    fits: (value) =>
      (settings.optional && (value === undefined || value === null)) ||
      (isOfType(value) &&
        (typeof value !== "number" || (value >= min && value <= max)) &&
        (maxLength === Infinity || lengthOf(value) <= maxLength) &&
        (pattern === null || (typeof value === "string" && pattern.test(value))) &&
        (allowed === null || allowed.has(value))),
  };
}

function longForm(short: string): FieldSettings {
  const isOptional = short.endsWith("?");
  const name = isOptional ? short.slice(0, -1) : short;
  return { type: name as FieldSettings["type"], optional: isOptional } as FieldSettings;
}

const typeTests: Readonly<Record<FieldSettings["type"], (value: unknown) => boolean>> = {
  string: (value) => typeof value === "string",
  number: Number.isFinite,
  integer: Number.isSafeInteger,
  boolean: (value) => typeof value === "boolean",
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  array: Array.isArray,
  any: (value) => value !== undefined,
};

/**
 * Said in place of superstruct's own words, which print the value, and `{ "toString": [] }` cannot be printed: it
 * throws. For the same reason a map is told from other values before superstruct sees it.
 */
const unfit = "does not fit";

/** Fields of a payload, nested where a path has dots; others may be there too. */
function structOf(fields: readonly CompiledField[], depth = 0): Struct {
  const names = new Map<string, CompiledField[]>();
  for (const field of fields) {
    const name = field.path[depth] ?? "";
    names.set(name, [...(names.get(name) ?? []), field]);
  }
  const members = [...names].map(([name, members]): [string, Struct] => {
    const deeper = members.filter(({ path }) => path.length > depth + 1);
    const own = members.filter(({ path }) => path.length === depth + 1);
    const nested = deeper.length > 0 ? structOf(deeper, depth + 1) : null;
    const isMissable = nested !== null && deeper.every(({ isOptional }) => isOptional);
    const isBelowRight = (value: unknown): boolean =>
      nested === null ||
      (isMissable && (value === undefined || value === null)) ||
      (typeTests.object(value) && is(value, nested));
    const fits = (value: unknown): boolean =>
      own.every((field) => field.fits(value)) && isBelowRight(value);
    // superstruct reads what an object inherits, too: a field named toString. JSON itself knows no functions.
    const isAbsent = (value: unknown): boolean => typeof value === "function";
    return [name, define<unknown>(name, (v) => fits(isAbsent(v) ? undefined : v) || unfit)];
  });
  if (members.length === 0) return unknown();
  return type(Object.fromEntries(members)) as unknown as Struct;
}

/** The first field that does not fit. */
function reasonOf(name: string, fields: readonly CompiledField[], value: unknown): string {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return `found ${shown(value)}, expected an object with the fields of stream ${name}`;
  }
  for (const { path, label, expected, fits } of fields) {
    const found = valueAt(value, path);
    if (!fits(found)) return `${label}: found ${shown(found)}, expected ${expected}`;
  }
  // What is left: a part of a path holds something else than an object.
  for (const { path } of fields) {
    for (let length = 1; length < path.length; length += 1) {
      const found = valueAt(value, path.slice(0, length));
      if (found === undefined || found === null || typeTests.object(found)) continue;
      return `${path.slice(0, length).join(".")}: found ${shown(found)}, expected an object`;
    }
  }
  return assert.fail(`Stream ${name} refuses a payload for no reason`);
}

function expectedOf({
  type: name,
  min,
  max,
  maxLength,
  pattern,
  enum: values,
}: FieldSettings): string {
  const words: Record<FieldSettings["type"], string> = {
    string: "text",
    number: "a number",
    integer: "a whole number",
    boolean: "true or false",
    object: "an object",
    array: "a list",
    any: "a value",
  };
  if (values !== undefined) return `one of ${values.join(", ")}`;
  return [
    words[name],
    ...(min !== undefined ? [`at least ${min}`] : []),
    ...(max !== undefined ? [`at most ${max}`] : []),
    ...(maxLength !== undefined ? [`at most ${maxLength} long`] : []),
    ...(pattern !== undefined ? [`matching ${pattern}`] : []),
  ].join(", ");
}

/** Long enough to recognise a value, short enough for a line. */
const shownMax = 60;

function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}

function lengthOf(value: unknown): number {
  return typeof value === "string" || Array.isArray(value) ? value.length : 0;
}

function pathOf(path: string | undefined): readonly string[] | null {
  return path === undefined ? null : path.split(".");
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let found = value;
  for (const name of path) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name))
      return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

/** Seconds reach this in the year 5138; as ms it is March 1973. */
const secondsBelow = 1e11;
/** ECMA-262, 21.4.1.1: the range of a time value, ms. */
const timeMax = 8.64e15;
/** ISO 8601: a date, and if there is a time then with or without a zone (none means UTC). */
const isoTime =
  /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

function readTime(value: unknown): number | null {
  if (typeof value === "number") {
    if (!Number.isFinite(value) || Math.abs(value) > timeMax) return null;
    return Math.abs(value) < secondsBelow ? Math.round(value * 1000) : Math.round(value);
  }
  if (typeof value !== "string") return null;
  const match = isoTime.exec(value);
  if (match === null) return null;
  const zone = match[1];
  const bare = (zone === undefined ? value : value.slice(0, -zone.length)).trim();
  const date = bare.replace(" ", "T").replace(",", ".");
  const hours = zone?.replace(
    /^([+-]\d\d)(\d\d)?$/,
    (_, hour, minute) => `${hour}:${minute ?? "00"}`,
  );
  const ms = Date.parse(date.length === 10 ? date : `${date}${(hours ?? "Z").toUpperCase()}`);
  return Number.isNaN(ms) ? null : ms;
}

function patternProblem(pattern: string): string | null {
  try {
    "".search(new RegExp(pattern, "u"));
    return null;
  } catch {
    return "It is not a regular expression";
  }
}

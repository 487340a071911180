/**
 * What a stream asks of its events: declared in the configuration, compiled to the rules of its door.
 *
 * An event costs one walk over the declared fields (about 2 µs for five); why one does not fit is worked out only then.
 */
import assert from "node:assert/strict";
import { define, is, type, unknown, type Struct } from "superstruct";
import type { Headers, PayloadFormat } from "../core/event.ts";
import { readTime } from "../core/event-time.ts";
import {
  checked,
  duration,
  group,
  integer,
  mapOf,
  oneOf,
  optional,
  size,
  text,
  type Infer,
} from "../core/field.ts";
import { excerptOf } from "../core/excerpt.ts";
import { pathOf, valueAt } from "../core/path.ts";
import {
  compileField,
  nestingProblem,
  schemaField,
  typeTests,
  type CompiledField,
} from "./payload-field.ts";

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
        doc: "Its events' time to live: older ones go, passed or not, told in _gaps; left out: the journal's, for replay alone",
        example: "7d",
      }),
    ),
    priority: integer({
      doc: "When the journal is full the lowest priority gives way first, and never for the events of a lower one",
      default: 5,
      max: 9,
    }),
    whenFull: optional(
      oneOf(["drop-oldest", "reject", "thin"], {
        doc: "What gives way when the journal or the stream's maxBytes is full: drop-oldest, reject (hold back its sources alone) or thin (keep one event of each key for each interval); left out: the journal's onFull",
        example: "thin",
      }),
    ),
    thin: optional(
      duration({
        doc: "The interval of whenFull: thin",
        example: "1m",
        min: "1s",
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
      checked(
        mapOf(schemaField, {
          doc: "Fields of the payload and their types; what does not fit becomes a dead letter; other fields may be there",
          example: { device: "string", temperature: "number?" },
          // Any name that JSON has, also a dotted path.
          names: /^.{1,256}$/s,
        }),
        nestingProblem,
      ),
    ),
  },
  { doc: "What a stream asks of its events" },
);
export type StreamSettings = Infer<typeof streamOptions>;
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
  const keyPath = options.key === undefined ? null : pathOf(options.key);
  const timePath = options.time === undefined ? null : pathOf(options.time);
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
      return `${options.time}: found ${excerptOf(found)}, expected a time (s, ms or ISO 8601)`;
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
    return `found ${excerptOf(value)}, expected an object with the fields of stream ${name}`;
  }
  for (const { path, label, expected, fits } of fields) {
    const found = valueAt(value, path);
    if (!fits(found)) return `${label}: found ${excerptOf(found)}, expected ${expected}`;
  }
  // What is left: a part of a path holds something else than an object.
  for (const { path } of fields) {
    for (let length = 1; length < path.length; length += 1) {
      const found = valueAt(value, path.slice(0, length));
      if (found === undefined || found === null || typeTests.object(found)) continue;
      return `${path.slice(0, length).join(".")}: found ${excerptOf(found)}, expected an object`;
    }
  }
  return assert.fail(`Stream ${name} refuses a payload for no reason`);
}

/**
 * How an option is declared: once, in the file that uses it.
 *
 * A field holds the superstruct that validates and coerces the value, and what a person needs to know about it.
 * Types, validation, defaults, README's reference, the commented example and the JSON Schema all come from here.
 */
import { isIPv6 } from "node:net";
import {
  array,
  defaulted,
  define,
  dynamic,
  object,
  optional as optionalStruct,
  record,
  refine,
  type as looseObject,
  unknown,
  type Struct,
} from "superstruct";
import { quantity, secretStruct } from "./field-structs.ts";
import { parseDuration, parseSize } from "./quantity.ts";
import type { Secret } from "./secret.ts";

// superstruct's second parameter describes its own schema; nothing here reads it.
// oxlint-disable-next-line typescript/no-explicit-any
type AnyStruct<T> = Struct<T, any>;
export type JsonSchema = Readonly<Record<string, unknown>>;

export interface About {
  /** One sentence for the reference. */
  readonly doc: string;
  /** What is allowed, to stand after "allowed: " in an error. */
  readonly allowed: string;
  readonly schema: JsonSchema;
  /** As one would write it in YAML. */
  readonly default?: unknown;
  readonly example?: unknown;
  readonly required: boolean;
  readonly secret?: true;
  /** What `checked` was given. */
  readonly problem?: (value: never) => string | null;
  /** Members of a group. */
  readonly fields?: Readonly<Record<string, AnyField>>;
  /** The value of each entry of a map, or item of a list. */
  readonly each?: AnyField;
  /** Alternatives chosen by `type`. */
  readonly kinds?: Readonly<Record<string, AnyField>>;
  /** Two ways to write it; `choose` tells which one a value is meant to be. */
  readonly ways?: readonly [AnyField, AnyField];
  readonly choose?: (value: unknown) => AnyField;
}

export interface Field<T> {
  readonly struct: AnyStruct<T>;
  readonly about: About;
}
// oxlint-disable-next-line typescript/no-explicit-any
export type AnyField = Field<any>;
export type Infer<F> = F extends Field<infer T> ? T : never;
export type Fields = Readonly<Record<string, AnyField>>;
export type InferAll<S extends Fields> = { readonly [K in keyof S]: Infer<S[K]> };

interface Words {
  readonly doc: string;
  readonly default?: unknown;
  readonly example?: unknown;
}

function make<T>(
  struct: AnyStruct<T>,
  words: Words,
  allowed: string,
  schema: JsonSchema,
): Field<T> {
  const isDefaulted = words.default !== undefined;
  return {
    struct: isDefaulted ? (defaulted(struct, words.default) as AnyStruct<T>) : struct,
    about: { ...words, allowed, schema, required: !isDefaulted },
  };
}

function check<T>(name: string, test: (value: unknown) => boolean): AnyStruct<T> {
  return define<T>(name, test);
}

/** The same field, with what it says of a value as a whole: a sentence, or null where nothing is wrong. */
export function checked<T>(field: Field<T>, problem: (value: T) => string | null): Field<T> {
  const about = { ...field.about, problem: problem as (value: never) => string | null };
  return { about, struct: refine(field.struct, "problem", (v) => problem(v) ?? true) };
}

/** The same field, which may be left out. */
export function optional<T>(field: Field<T>): Field<T | undefined> {
  return {
    struct: optionalStruct(field.struct),
    about: { ...field.about, required: false },
  };
}

/**
 * `problem` says in a sentence what is wrong with a text that no pattern can judge (an expression that does not
 * compile); null: nothing is. It arrives as the message of a failure whose refinement is `problem`.
 */
export function text(
  words: Words & {
    pattern?: RegExp;
    allowed?: string;
    problem?: (value: string) => string | null;
  },
): Field<string> {
  const { pattern, allowed, problem, ...rest } = words;
  const plain = check<string>(
    "text",
    (v) => typeof v === "string" && v !== "" && (pattern?.test(v) ?? true),
  );
  return make(
    problem === undefined ? plain : refine(plain, "problem", (v) => problem(v) ?? true),
    rest,
    allowed ?? "text",
    { type: "string", minLength: 1, ...(pattern && { pattern: pattern.source }) },
  );
}

export function integer(words: Words & { min?: number; max?: number }): Field<number> {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, ...rest } = words;
  return make(
    check<number>(
      "integer",
      (v) => Number.isSafeInteger(v) && (v as number) >= min && (v as number) <= max,
    ),
    rest,
    max === Number.MAX_SAFE_INTEGER
      ? `a whole number, at least ${min}`
      : `a whole number from ${min} to ${max}`,
    { type: "integer", minimum: min, ...(max !== Number.MAX_SAFE_INTEGER && { maximum: max }) },
  );
}

export function number(words: Words): Field<number> {
  return make(check<number>("number", Number.isFinite), words, "a number", { type: "number" });
}

/** Anything that YAML can say; it may be left out. */
export function anything(words: Words): Field<unknown> {
  return optional(make(unknown(), words, "any value", {}));
}

export function boolean(words: Words): Field<boolean> {
  return make(
    check<boolean>("boolean", (v) => typeof v === "boolean"),
    words,
    "true or false",
    {
      type: "boolean",
    },
  );
}

export function oneOf<const T extends string | number>(
  choices: readonly T[],
  words: Words,
): Field<T> {
  return make(
    check<T>("choice", (v) => choices.includes(v as T)),
    words,
    `one of ${choices.join(", ")}`,
    { enum: choices },
  );
}

/** In the file a string such as `5s`; in the program ms. */
export function duration(words: Words & { min?: string; max?: string }): Field<number> {
  const { min = "0ms", max, ...rest } = words;
  const least = parseDuration(min) ?? 0;
  const most = max === undefined ? Number.POSITIVE_INFINITY : (parseDuration(max) ?? 0);
  const bounds = `${min === "0ms" ? "" : `, at least ${min}`}${max === undefined ? "" : `, at most ${max}`}`;
  return make(
    quantity(least, most, parseDuration),
    rest,
    `a duration such as 250ms, 5s, 1m or 30d${bounds}`,
    { type: "string", pattern: String.raw`^\d+(\.\d+)?\s*(ms|s|m|h|d)$` },
  );
}

/** In the file a string such as `64KiB`; in the program bytes. */
export function size(words: Words & { min?: string }): Field<number> {
  const { min = "0B", ...rest } = words;
  const least = parseSize(min) ?? 0;
  return make(
    quantity(least, Number.POSITIVE_INFINITY, parseSize),
    rest,
    `a size such as 64KiB, 512MiB or 1GiB${min === "0B" ? "" : `, at least ${min}`}`,
    { type: "string", pattern: String.raw`^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB)$` },
  );
}

export function url(words: Words & { protocols: readonly string[] }): Field<string> {
  const { protocols, ...rest } = words;
  return make(
    check<string>("url", (v) => {
      if (typeof v !== "string" || !URL.canParse(v)) return false;
      return protocols.includes(new URL(v).protocol.slice(0, -1));
    }),
    rest,
    `a URL with ${protocols.map((p) => `${p}://`).join(" or ")}`,
    { type: "string", pattern: `^(${protocols.join("|")})://` },
  );
}

/** `host:port`, `[host]:port` for IPv6, `unix:PATH` for a socket. */
export function listenAddress(words: Words): Field<string> {
  return make(
    check<string>("listen", (v) => typeof v === "string" && isListenAddress(v)),
    words,
    "an address such as 127.0.0.1:8000, [::1]:8000 or unix:/run/holdfast/admin.sock",
    { type: "string" },
  );
}

function isListenAddress(address: string): boolean {
  if (/^unix:\/.+$/.test(address)) return true;
  const match = /^(?:\[(.*)\]|[^:\s]+):(\d{1,5})$/.exec(address);
  return (
    match !== null && Number(match[2]) <= 65_535 && (match[1] === undefined || isIPv6(match[1]))
  );
}

/** Text, `{ file: PATH }` or `{ credential: NAME }`. */
export function secret(words: Words): Field<Secret> {
  const field = make(secretStruct(), words, "text, { file: PATH } or { credential: NAME }", {
    oneOf: ["file", "credential"]
      .map((name) => ({
        type: "object",
        properties: { [name]: { type: "string" } },
        required: [name],
        additionalProperties: false,
      }))
      .concat({ type: "string" } as never),
  });
  return { ...field, about: { ...field.about, secret: true } };
}

/** A key with nothing after it, all its lines commented out, is an empty map. */
const mapOrBlank = ["object", "null"];

/** Named members; anything else is an error. Left out as a whole, it takes its members' defaults if it can. */
export function group<S extends Fields>(fields: S, words: Words): Field<InferAll<S>> {
  const structs = Object.fromEntries(Object.entries(fields).map(([name, f]) => [name, f.struct]));
  const required = Object.keys(fields).filter((name) => fields[name]?.about.required);
  const field = make(
    object(structs) as unknown as AnyStruct<InferAll<S>>,
    words,
    `a map with the keys ${Object.keys(fields).join(", ")}`,
    {
      type: "object",
      properties: Object.fromEntries(
        Object.entries(fields).map(([name, f]) => [name, schemaOf(f)]),
      ),
      ...(required.length > 0 && { required }),
      additionalProperties: false,
    },
  );
  if (required.length > 0) return { ...field, about: { ...field.about, fields } };
  const schema = { ...field.about.schema, type: mapOrBlank };
  return {
    struct: defaulted(field.struct, {}) as AnyStruct<InferAll<S>>,
    about: { ...field.about, fields, required: false, schema },
  };
}

/** Names of the user's choice, each with a value of one kind. Left out: none. */
export function mapOf<T>(
  each: Field<T>,
  words: Words & { names?: RegExp },
): Field<Readonly<Record<string, T>>> {
  const { names = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/, ...rest } = words;
  const name = define<string>(
    "name",
    (v) => typeof v === "string" && names.test(v) && v !== "__proto__",
  );
  return {
    struct: defaulted(record(name, each.struct), {}),
    about: {
      ...rest,
      allowed: "a map of names (letters, digits, _ . -, at most 64 characters) to values",
      required: false,
      each,
      schema: {
        type: mapOrBlank,
        propertyNames: { pattern: names.source },
        additionalProperties: schemaOf(each),
      },
    },
  };
}

export function listOf<T>(each: Field<T>, words: Words & { min?: number }): Field<readonly T[]> {
  const { min = 0, ...rest } = words;
  const items = array(each.struct);
  const struct = min === 0 ? items : refine(items, "length", (value) => value.length >= min);
  const field = make(
    struct as unknown as AnyStruct<readonly T[]>,
    rest,
    `a list${min > 0 ? `, not empty` : ""}`,
    {
      type: "array",
      items: schemaOf(each),
      ...(min > 0 && { minItems: min }),
    },
  );
  return { ...field, about: { ...field.about, each } };
}

/** One of several groups, chosen by its `type`. The value keeps `type`. */
export function byType<M extends Readonly<Record<string, AnyField>>>(
  kinds: M,
  words: Words,
): Field<{ [K in keyof M & string]: Infer<M[K]> & { readonly type: K } }[keyof M & string]> {
  type Chosen = { [K in keyof M & string]: Infer<M[K]> & { readonly type: K } }[keyof M & string];
  const names = Object.keys(kinds);
  const withType = Object.fromEntries(
    names.map((name) => {
      const { fields = {}, doc = "", problem } = kinds[name]?.about ?? {};
      const whole = group({ type: oneOf([name], { doc: "The kind" }), ...fields }, { doc });
      return [name, problem === undefined ? whole : checked(whole, problem as () => string | null)];
    }),
  );
  // Loose: where the kind is not known, no other key can be called wrong.
  const unknownType = looseObject({ type: define<unknown>("kind", () => false) });
  const struct = dynamic((value) => {
    const type =
      typeof value === "object" && value !== null ? (value as { type?: unknown }).type : undefined;
    const chosen =
      typeof type === "string" && Object.hasOwn(withType, type) ? withType[type] : undefined;
    return (chosen?.struct ?? unknownType) as AnyStruct<unknown>;
  });
  return {
    struct: struct as unknown as AnyStruct<Chosen>,
    about: {
      ...words,
      allowed: `a map with type: one of ${names.join(", ")}`,
      required: true,
      kinds: withType,
      schema: { oneOf: names.map((name) => schemaOf(withType[name] as AnyField)) },
    },
  };
}

/** Either of two ways to write one thing, told apart by `isFirst`. */
export function either<A, B>(
  first: Field<A>,
  second: Field<B>,
  isFirst: (value: unknown) => boolean,
  words: Words,
): Field<A | B> {
  const choose = (value: unknown): AnyField => (isFirst(value) ? first : second);
  const struct = dynamic((value) => choose(value).struct as AnyStruct<unknown>);
  const field = make(
    struct as unknown as AnyStruct<A | B>,
    words,
    `${first.about.allowed}, or ${second.about.allowed}`,
    {
      anyOf: [schemaOf(first), schemaOf(second)],
    },
  );
  return { ...field, about: { ...field.about, ways: [first, second], choose } };
}

function schemaOf(field: AnyField): JsonSchema {
  const { doc, default: standard } = field.about;
  return {
    ...field.about.schema,
    description: doc,
    ...(standard !== undefined && { default: standard }),
  };
}

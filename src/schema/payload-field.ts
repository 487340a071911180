/** One field of a payload: how it is declared in a stream's schema, and the test that it becomes. */
import {
  boolean,
  checked,
  either,
  group,
  integer,
  listOf,
  number,
  oneOf,
  optional,
  text,
  type Infer,
} from "../core/field.ts";
import { excerptOf } from "../core/excerpt.ts";

const fieldTypes = ["string", "number", "integer", "boolean", "object", "array", "any"] as const;
const shortTypes = [...fieldTypes, ...fieldTypes.map((name) => `${name}?` as const)] as const;

const isText = (value: unknown): boolean => typeof value === "string";

const longForm = checked(
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
  boundsProblem,
);

export const schemaField = either(
  oneOf(shortTypes, { doc: "The field's type; with ? it may be missing or null" }),
  longForm,
  isText,
  { doc: "What one field of the payload must be" },
);

export type FieldSettings = Infer<typeof longForm>;

export interface CompiledField {
  readonly path: readonly string[];
  readonly label: string;
  readonly isOptional: boolean;
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

export function compileField(label: string, given: string | FieldSettings): CompiledField {
  const settings = typeof given === "string" ? spelledOut(given) : given;
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

function spelledOut(short: string): FieldSettings {
  const isOptional = short.endsWith("?");
  const name = isOptional ? short.slice(0, -1) : short;
  return { type: name as FieldSettings["type"], optional: isOptional } as FieldSettings;
}

export const typeTests: Readonly<Record<FieldSettings["type"], (value: unknown) => boolean>> = {
  string: (value) => typeof value === "string",
  number: Number.isFinite,
  integer: Number.isSafeInteger,
  boolean: (value) => typeof value === "boolean",
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  array: Array.isArray,
  any: (value) => value !== undefined,
};

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

function lengthOf(value: unknown): number {
  return typeof value === "string" || Array.isArray(value) ? value.length : 0;
}

function patternProblem(pattern: string): string | null {
  try {
    "".search(new RegExp(pattern, "u"));
    return null;
  } catch {
    return "It is not a regular expression";
  }
}

/** A bound that a field's type does not have would refuse every payload, or none. */
function boundsProblem({
  type: name,
  min,
  max,
  maxLength,
  pattern,
  ...rest
}: {
  readonly type: (typeof fieldTypes)[number];
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly maxLength?: number | undefined;
  readonly pattern?: string | undefined;
  readonly enum?: readonly (string | number)[] | undefined;
}): string | null {
  const isOneOf = (...names: string[]): boolean => name === "any" || names.includes(name);
  if ((min ?? max) !== undefined && !isOneOf("number", "integer")) {
    return `min and max are for numbers, not for ${name}`;
  }
  if (min !== undefined && max !== undefined && min > max) return "min is greater than max";
  if (maxLength !== undefined && !isOneOf("string", "array")) {
    return `maxLength is for string and array, not for ${name}`;
  }
  if (pattern !== undefined && !isOneOf("string")) return `pattern is for string, not for ${name}`;
  const stranger = rest.enum?.find((value) => !typeTests[name](value));
  return stranger === undefined ? null : `${excerptOf(stranger)} in enum is no ${name}`;
}

/** `at: number` and `at.lat: number` cannot both be. */
export function nestingProblem(
  fields: Readonly<Record<string, string | FieldSettings>>,
): string | null {
  for (const path of Object.keys(fields)) {
    const parts = path.split(".");
    for (let length = 1; length < parts.length; length += 1) {
      const above = parts.slice(0, length).join(".");
      const given = Object.hasOwn(fields, above) ? fields[above] : undefined;
      const name = typeof given === "string" ? spelledOut(given).type : given?.type;
      if (name === undefined || name === "object" || name === "any") continue;
      return `${above} is ${name}, and ${path} asks for an object there`;
    }
  }
  return null;
}

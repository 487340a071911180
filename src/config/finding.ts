/** What is wrong with a configuration, before it is known on which line that stands. */
import type { AnyField } from "../core/field.ts";
import { nearestName } from "../core/nearest.ts";

export type Path = readonly (string | number)[];

/** More mistakes than a person makes: a file with more is another program's, and is not worth the time. */
export const findingsMax = 200;

export interface Finding {
  readonly path: Path;
  /** What to point at: the key or the value at `path`; for what is missing, its parent's key. */
  readonly at: "key" | "value" | "parent";
  /** `found "x"`, `missing`, `unknown key`; never a secret's text. */
  readonly found: string;
  readonly allowed?: string;
  /** What was probably meant. */
  readonly nearest?: string;
}

/** What the validator says of one place. */
export interface Failure {
  readonly path: Path;
  /** A key that the declaration does not know. */
  readonly isUnknownKey: boolean;
  /** What a declaration's own test says, if it was that. */
  readonly reason?: string;
}

/** Failures in the declaration's words, one for each mistake. `isHidden`: that value must not be shown. */
export function explain(
  root: AnyField,
  value: unknown,
  failures: readonly Failure[],
  isHidden: (path: Path) => boolean,
): Finding[] {
  const findings = new Map<string, Finding>();
  for (const failure of failures) {
    const finding = explainOne(root, value, failure, isHidden);
    const place = JSON.stringify(finding.path);
    if (!findings.has(place)) findings.set(place, finding);
  }
  return [...findings.values()];
}

function explainOne(
  root: AnyField,
  value: unknown,
  { path, isUnknownKey, reason }: Failure,
  isHidden: (path: Path) => boolean,
): Finding {
  const parentPath = path.slice(0, -1);
  const name = String(path.at(-1) ?? "");
  const parent = fieldAt(root, value, parentPath);
  const names = parent === undefined ? [] : memberNames(parent, valueAt(value, parentPath));
  if (isUnknownKey && names.length > 0) return unknownKey(path, names);
  const field = fieldAt(root, value, path);
  const found = valueAt(value, path);
  if (found === undefined) {
    const slip = slipFor(name, names, valueAt(value, parentPath));
    if (slip !== undefined)
      return unknownKey([...parentPath, slip], names.length > 0 ? names : [name]);
    return { path, at: "parent", found: "missing", ...allowedBy(field) };
  }
  if (parent?.about.each !== undefined && field !== undefined && fits(parent, name) === false) {
    return { path, at: "key", found: "found this name", allowed: parent.about.allowed };
  }
  const hidden = isHidden(path);
  // Text where a map belongs says nothing that helps, and may be a secret in the wrong place.
  const isGroup = field?.about.fields !== undefined || field?.about.kinds !== undefined;
  const seen = hidden || isGroup || holdsSecret(field) ? kindOf(found) : shown(found);
  if (reason !== undefined) {
    return { path, at: "value", found: hidden ? `found ${seen}` : `found ${seen}: ${reason}` };
  }
  const choices = field === undefined ? [] : choicesOf(field);
  const nearest = hidden || typeof found !== "string" ? undefined : nearestName(found, choices);
  return {
    path,
    at: "value",
    found: `found ${seen}`,
    ...allowedBy(field),
    ...(nearest !== undefined && { nearest }),
  };
}

function unknownKey(path: Path, names: readonly string[]): Finding {
  const name = String(path.at(-1));
  const [before = ""] = name.split(":");
  if (before !== name && names.includes(before)) {
    // { password:hunter2 } is one key to YAML.
    const found = "found no space after the colon";
    return { path, at: "key", found, allowed: `${before}: VALUE` };
  }
  const nearest = nearestName(name, names);
  return {
    path,
    at: "key",
    found: "unknown key",
    allowed: names.join(", "),
    ...(nearest !== undefined && { nearest }),
  };
}

/** A key beside it that is not known and looks like the missing one: that is one mistake and not two. */
function slipFor(missing: string, names: readonly string[], parent: unknown): string | undefined {
  if (typeof parent !== "object" || parent === null) return undefined;
  const strangers = Object.keys(parent).filter((key) => !names.includes(key));
  return strangers.find((key) => nearestName(key, [...names, missing]) === missing);
}

/** The declaration of what stands at `path`. */
export function fieldAt(root: AnyField, value: unknown, path: Path): AnyField | undefined {
  let field: AnyField | undefined = root;
  let here = value;
  for (const key of path) {
    field = memberAt(field, here, String(key));
    if (field === undefined) return undefined;
    here = valueAt(here, [key]);
  }
  return settled(field, here);
}

/** The declaration of `value`'s member `key`, where `value` is declared by `field`. */
export function memberAt(field: AnyField, value: unknown, key: string): AnyField | undefined {
  return memberOf(settled(field, value), key);
}

/** The alternative that `value` is meant to be. */
export function settled(field: AnyField, value: unknown): AnyField {
  const { kinds, choose } = field.about;
  if (choose !== undefined) return settled(choose(value), value);
  const type = valueAt(value, ["type"]);
  const kind =
    kinds !== undefined && typeof type === "string" && Object.hasOwn(kinds, type)
      ? kinds[type]
      : undefined;
  return kind ?? field;
}

function memberOf(field: AnyField, key: string): AnyField | undefined {
  const { fields, each, kinds } = field.about;
  if (fields !== undefined) return Object.hasOwn(fields, key) ? fields[key] : undefined;
  if (kinds !== undefined && key === "type") {
    const names = Object.keys(kinds);
    const allowed = `one of ${names.join(", ")}`;
    return {
      ...field,
      about: { doc: "The kind", allowed, required: true, schema: { enum: names } },
    };
  }
  return each;
}

function memberNames(field: AnyField, value: unknown): readonly string[] {
  const { fields, kinds } = settled(field, value).about;
  if (fields !== undefined) return Object.keys(fields);
  return kinds === undefined ? [] : ["type"];
}

function fits(map: AnyField, name: string): boolean | undefined {
  const names = map.about.schema["propertyNames"] as { pattern: string } | undefined;
  if (names === undefined) return undefined;
  return new RegExp(names.pattern, "s").test(name) && name !== "__proto__";
}

function choicesOf(field: AnyField): readonly string[] {
  const choices = field.about.schema["enum"];
  return Array.isArray(choices) ? choices.map(String) : [];
}

function allowedBy(field: AnyField | undefined): { allowed?: string } {
  return field === undefined ? {} : { allowed: field.about.allowed };
}

/** Whether a secret belongs here or below: then no text that stands here is shown. */
export function holdsSecret(field: AnyField | undefined): boolean {
  if (field === undefined) return false;
  const { secret, fields, each, kinds, ways } = field.about;
  return (
    secret === true ||
    [...Object.values(fields ?? {}), ...Object.values(kinds ?? {}), ...(ways ?? [])].some(
      holdsSecret,
    ) ||
    holdsSecret(each)
  );
}

export function valueAt(value: unknown, path: Path): unknown {
  let here = value;
  for (const key of path) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, key)) return undefined;
    here = (here as Record<string | number, unknown>)[key];
  }
  return here;
}

export function entriesOf(value: unknown, room: string): [string, unknown][] {
  const map = valueAt(value, [room]);
  return isMap(map) ? Object.entries(map) : [];
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Enough to recognise a value, short enough for a line. */
const shownMax = 80;

/** What stands before the @ of a URL may be a password, and what stands after such a word is one. */
const secretParts = [
  [/\/\/.*@/gs, "//…@"],
  [/([\w-]*(?:password|passwd|token|secret)[\w-]*\s*[:=]).*/gis, "$1…"],
] as const;

/** A value as it goes into a message. */
export function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return kindOf(value);
  const masked = secretParts.reduce((text, [part, sign]) => text.replaceAll(part, sign), value);
  return quoted(masked.length > shownMax ? `${masked.slice(0, shownMax)}…` : masked);
}

/** In one line, and without what a terminal would obey. */
function quoted(text: string): string {
  // JSON escapes what lies below U+0020; DEL, the C1 controls and the two line separators it leaves.
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u2028\u2029]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return "a map";
  return { string: "text", number: "a number", boolean: "true or false" }[typeof value as "string"];
}

/** `sinks.cloud.from[1]`. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? keyText(key) : `${text}.${keyText(key)}`;
  }, "");
}

/** A key as it stands in a path. After a colon in it there stands a value, which may be a secret. */
function keyText(key: string): string {
  const text = key.replace(/:.*$/s, ":…");
  if (/^[\w.$<>:… -]{1,64}$/.test(text)) return text;
  return quoted(text.length > shownMax ? `${text.slice(0, shownMax)}…` : text);
}

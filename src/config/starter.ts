/**
 * The commented starter file, printed from the declaration: what `holdfast init` writes and device/example.yaml
 * shows. A line that begins with `# ` is prose; `#` without a space stands before an option that may be put to use.
 */
import type { AnyField } from "../core/field.ts";
import { configOptions } from "./config.ts";

type Values = Readonly<Record<string, unknown>>;

/** The entries that a starter file has in use; every other kind is shown commented out. */
const inUse: Readonly<Record<string, Readonly<Record<string, Values>>>> = {
  streams: { readings: { format: "json" } },
  sources: {
    listen: { type: "broker", listen: "127.0.0.1:1883", topics: ["#"], stream: "readings" },
    board: { type: "system", every: "10s", stream: "system" },
  },
  sinks: { console: { type: "console", from: ["readings", "system"] } },
};

const heading = `# holdfast: the configuration of one agent.
#
# \`holdfast check --config FILE\` tells every problem with its line, \`holdfast run --config FILE\` runs it.
# What stands behind a # without a space is the default, or an example of what may be left out: remove the # to use it.
# Durations: 250ms, 5s, 1m, 30d. Sizes: 64KiB, 512MiB, 1GiB. \${NAME} and \${NAME:-default} take environment variables.
# A secret is text, { file: PATH } or { credential: NAME } (systemd's LoadCredential=).
`;

export function starterText(): string {
  const sections = Object.entries(configOptions.about.fields ?? {}).map(([name, field]) =>
    [...prose(field, 0), `${name}:`, ...sectionLines(name, field)].join("\n"),
  );
  return `${heading}\n${sections.join("\n\n")}\n`;
}

function sectionLines(section: string, field: AnyField): string[] {
  const { each } = field.about;
  if (each === undefined) return membersOf(field, {}, 1, false);
  const used = inUse[section] ?? {};
  const entries = Object.entries(used).flatMap(([name, values]) => {
    const kind = kindOf(each, values["type"]);
    return [...prose(kind, 1), `  ${name}:`, ...membersOf(kind, values, 2, false)];
  });
  const shown = new Set(Object.values(used).map(({ type }) => type));
  const rest = Object.entries(each.about.kinds ?? {})
    .filter(([type]) => !shown.has(type))
    .flatMap(([type, kind]) => [
      ...prose(kind, 1),
      `  #${type}:`,
      ...membersOf(kind, { type }, 2, true),
    ]);
  const isEmpty = entries.length === 0 && rest.length === 0;
  if (!isEmpty) return [...entries, ...rest];
  return [...prose(each, 1), "  #example:", ...membersOf(each, {}, 2, true)];
}

/** The members of a group, one after the other; `values` are in use, others are commented out. */
function membersOf(field: AnyField, values: Values, depth: number, isOff: boolean): string[] {
  const indent = "  ".repeat(depth);
  return Object.entries(field.about.fields ?? {}).flatMap(([name, member]) => {
    // What a kind is, its heading has said.
    const words = name === "type" ? [] : prose(member, depth);
    const isUsed = Object.hasOwn(values, name) && !isOff;
    const hash = isUsed || (member.about.required && !isOff) ? "" : "#";
    if (member.about.fields !== undefined && member.about.example === undefined) {
      return [...words, `${indent}${hash}${name}:`, ...membersOf(member, {}, depth + 1, true)];
    }
    const value = values[name] ?? sampleOf(member);
    return [...words, `${indent}${hash}${name}: ${written(value)}`];
  });
}

function kindOf(each: AnyField, type: unknown): AnyField {
  return each.about.kinds?.[String(type)] ?? each;
}

function prose(field: AnyField, depth: number): string[] {
  return [`${"  ".repeat(depth)}# ${field.about.doc}`];
}

/** A value that the field takes: its default or example, or what its shape suggests. */
export function sampleOf(field: AnyField): unknown {
  const { default: standard, example, each, fields, kinds, ways, secret, schema } = field.about;
  // An empty list says less than an example.
  const isTelling = !Array.isArray(standard) || standard.length > 0;
  if (standard !== undefined && isTelling) return standard;
  if (example !== undefined) return example;
  if (secret === true) return { credential: "NAME" };
  if (each !== undefined) {
    return schema["type"] === "array" ? [sampleOf(each)] : { name: sampleOf(each) };
  }
  if (fields !== undefined) {
    const members = Object.entries(fields).filter(([, member]) => member.about.required);
    const shown = members.length > 0 ? members : Object.entries(fields).slice(0, 1);
    return Object.fromEntries(shown.map(([name, member]) => [name, sampleOf(member)]));
  }
  if (kinds !== undefined) return sampleOf(Object.values(kinds)[0] as AnyField);
  if (ways !== undefined) return sampleOf(ways[0]);
  const choices = schema["enum"];
  if (Array.isArray(choices)) return choices[0] as unknown;
  return (
    { integer: schema["minimum"], number: 0, boolean: false }[String(schema["type"])] ?? "text"
  );
}

/** As YAML in one line: JSON is YAML, and text that YAML takes for nothing else stands without quotes. */
export function written(value: unknown): string {
  if (typeof value !== "string") {
    return JSON.stringify(value, null, 1).replaceAll(/\s*\n\s*/g, " ");
  }
  const isPlain = /^[A-Za-z0-9./][\w./:-]*$/.test(value) && Number.isNaN(Number(value));
  return isPlain && !/^(true|false|null|yes|no|on|off)$/i.test(value)
    ? value
    : JSON.stringify(value);
}

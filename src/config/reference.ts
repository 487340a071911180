/**
 * The reference of all options, printed from the declaration: device/example.yaml, device/schema.json and
 * device/reference.md; and README's tables of errors and metrics, printed from theirs. `npm run reference` writes
 * them anew; a test fails when they are stale.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorTable } from "../core/errors.ts";
import type { AnyField } from "../core/field.ts";
import { metricTable } from "../core/metrics.ts";
import { configOptions } from "./config.ts";
import { starterText, written } from "./starter.ts";

/** The generated files, by their path from the repository's root. */
export function referenceFiles(): ReadonlyMap<string, string> {
  return new Map([
    ["device/example.yaml", starterText()],
    ["device/schema.json", schemaText()],
    ["device/reference.md", tablesText()],
    ["README.md", readmeText(readFileSync("README.md", "utf8"))],
  ]);
}

/** README with the tables between its marks printed anew; the rest is written by hand. */
function readmeText(readme: string): string {
  const errors = Object.entries(errorTable).map(([code, { kind, sentence, hint }]) => [
    `\`${code}\``,
    kind,
    sentence,
    hint,
  ]);
  const metrics = Object.entries(metricTable).map(([name, { kind, labels, help }]) => [
    `\`${name}${labels.length > 0 ? `{${labels.join(",")}}` : ""}\``,
    kind,
    help,
  ]);
  const printed = {
    errors: markdown(["code", "kind", "what happened", "what to do"], errors),
    metrics: markdown(["metric", "kind", "what it counts"], metrics),
  };
  return Object.entries(printed).reduce(
    (text, [mark, table]) =>
      text.replace(
        new RegExp(`(<!-- ${mark} -->\\n)[\\s\\S]*?(\\n<!-- /${mark} -->)`),
        (_, open: string, close: string) => `${open}${table}${close}`,
      ),
    readme,
  );
}

function markdown(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(heads), line(heads.map(() => "---")), ...rows.map(line)].join("\n");
}

function schemaText(): string {
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "holdfast",
    description: configOptions.about.doc,
    ...configOptions.about.schema,
    type: "object",
    required: ["sources"],
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

function tablesText(): string {
  const sections = Object.entries(configOptions.about.fields ?? {}).map(([name, field]) =>
    section(name, field),
  );
  return `# Options

Printed from the declaration by \`npm run reference\`; do not edit. \`example.yaml\` beside it is a starter file.

Values are those of YAML. \`\${NAME}\` takes an environment variable, which must be set; \`\${NAME:-default}\` takes the default
where it is not set or empty; \`$\${\` stands for a plain \`\${\`. What is filled in stays text where text is asked for; where a
number or true or false is asked for, and the variable is the whole value and without quotes, it is read as one. Inside
\`{ }\` and \`[ ]\` it needs quotes. A group with nothing after its name takes its defaults; an option with nothing after it
is a mistake.

${sections.join("\n")}`;
}

function section(name: string, field: AnyField): string {
  const { doc, each, fields } = field.about;
  const intro = `## \`${name}\`\n\n${doc}.\n`;
  if (fields !== undefined) return `${intro}\n${table(rowsOf(field, ""))}`;
  const { kinds } = each?.about ?? {};
  if (each === undefined) return intro;
  if (kinds === undefined) return `${intro}\nEach entry:\n\n${table(rowsOf(each, ""))}`;
  const parts = Object.entries(kinds).map(
    ([type, kind]) => `### \`type: ${type}\`\n\n${kind.about.doc}.\n\n${table(rowsOf(kind, ""))}`,
  );
  return `${intro}\n${parts.join("\n")}`;
}

/** A row for each option; those of a group inside carry its name in front. */
function rowsOf(field: AnyField, prefix: string): string[][] {
  return Object.entries(field.about.fields ?? {})
    .filter(([name]) => name !== "type" || prefix !== "")
    .flatMap(([name, member]) => rowsOfMember(`${prefix}${name}`, member));
}

function rowsOfMember(name: string, member: AnyField): string[][] {
  const { about } = member;
  const isOneKey = about.schema["maxProperties"] === 1;
  if (about.fields !== undefined && !isOneKey) return rowsOf(member, `${name}.`);
  const standard = about.required
    ? "required"
    : about.default === undefined
      ? "–"
      : `\`${written(about.default)}\``;
  const example = about.example === undefined ? "" : ` Example: \`${written(about.example)}\``;
  const own = [`\`${name}\``, about.allowed, standard, `${about.doc}.${example}`];
  return [own, ...innerRows(name, member)];
}

/** What the entries of a list or map hold, where that is a group or one of two ways. */
function innerRows(name: string, member: AnyField): string[][] {
  const { each, ways, schema } = member.about;
  const inner = each === undefined ? "" : schema["type"] === "array" ? "[]" : ".NAME";
  const groups = each === undefined ? (ways ?? []) : [each, ...(each.about.ways ?? [])];
  return groups.flatMap((group) => rowsOf(group, `${name}${inner}.`));
}

function table(rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", String.raw`\|`)).join(" | ")} |`;
  const head = [
    line(["option", "allowed", "default", "what it does"]),
    "| --- | --- | --- | --- |",
  ];
  return `${[...head, ...rows.map(line)].join("\n")}\n`;
}

if (import.meta.main) {
  const root = join(import.meta.dirname, "..", "..");
  for (const [path, text] of referenceFiles()) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

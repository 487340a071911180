/** holdfast(1) and holdfast-config(5), printed from the tables that --help and the reference are printed from. */
import { adminHelp, allCommands } from "../src/cli/commands.ts";
import { configOptions } from "../src/config/config.ts";
import { written } from "../src/config/starter.ts";
import { errorTable } from "../src/core/errors.ts";
import type { AnyField } from "../src/core/field.ts";
import type { Release } from "./target.ts";

export async function commandManual(release: Release): Promise<string> {
  const commands = await allCommands();
  const rows = commands.map(
    ({ usage, summary }) => `.TP\n\\fBholdfast\\fR ${text(usage)}\n${text(summary)}.`,
  );
  const codes = Object.entries(errorTable).map(
    ([code, { kind, sentence, hint }]) =>
      `.TP\n\\fB${code}\\fR (${kind})\n${text(sentence)}. ${text(hint.replaceAll("`", ""))}.`,
  );
  return [
    heading("HOLDFAST", 1, release),
    ".SH NAME\nholdfast \\- durable edge agent",
    ".SH SYNOPSIS\n\\fBholdfast\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...]",
    `.SH DESCRIPTION\n${text("Readings from MQTT and from the board's own sensors are made durable before they are acknowledged, processed on the device, and delivered whenever there is a network.")}`,
    `.SH COMMANDS\n${rows.join("\n")}`,
    `.SH OPTIONS\n.nf\n${text(adminHelp.trim())}\n.fi`,
    `.SH EXIT STATUS
0: done; 1: it failed, one line says why; 2: wrong usage.
\\fBholdfast run\\fR ends with 70 after a mistake of its own, with 74 when the journal cannot go on (start it again), and
with 78 when a person must act first; the unit does not start it again after that.`,
    `.SH SIGNALS
SIGTERM and SIGINT end the agent within 5 s; the second ends it at once. SIGHUP reads the configuration anew.`,
    `.SH ERRORS\n${codes.join("\n")}`,
    `.SH FILES
.TP
\\fI/etc/holdfast/agent.yaml\\fR
The configuration, see holdfast-config(5).
.TP
\\fI/var/lib/holdfast/journal.db\\fR
The journal.
.TP
\\fI/usr/share/holdfast\\fR
The reference, the schema for editors, an example, and drop-ins for the unit.`,
    ".SH SEE ALSO\nholdfast-config(5), systemctl(1), journalctl(1)",
    "",
  ].join("\n");
}

export function configManual(release: Release): string {
  const sections = Object.entries(configOptions.about.fields ?? {}).flatMap(([name, field]) => {
    const { doc, fields, each } = field.about;
    const intro = `.SH ${name.toUpperCase()}\n${text(doc)}.`;
    if (fields !== undefined) return [intro, ...optionsOf(field, "")];
    const kinds = Object.entries(each?.about.kinds ?? {});
    if (each === undefined) return [intro];
    if (kinds.length === 0) return [intro, "Each entry:", ...optionsOf(each, "")];
    return [
      intro,
      ...kinds.flatMap(([type, kind]) => [
        `.SS type: ${text(type)}\n${text(kind.about.doc)}.`,
        ...optionsOf(kind, ""),
      ]),
    ];
  });
  return [
    heading("HOLDFAST-CONFIG", 5, release),
    ".SH NAME\nholdfast-config \\- the configuration of the holdfast agent",
    ".SH SYNOPSIS\n\\fI/etc/holdfast/agent.yaml\\fR",
    `.SH DESCRIPTION
${text("One YAML file. `holdfast check --config FILE` lists every problem at once, with its line. Durations are written 250ms, 5s, 1m, 30d, sizes 64KiB, 512MiB; ${NAME} and ${NAME:-default} take environment variables. A secret is text, { file: PATH } or { credential: NAME }, which systemd's LoadCredential= provides.")}`,
    ...sections,
    ".SH SEE ALSO\nholdfast(1)",
    "",
  ].join("\n");
}

function optionsOf(field: AnyField, prefix: string): string[] {
  return Object.entries(field.about.fields ?? {})
    .filter(([name]) => name !== "type" || prefix !== "")
    .flatMap(([name, { about }]) => {
      if (about.fields !== undefined && about.schema["maxProperties"] !== 1)
        return optionsOf({ about } as AnyField, `${prefix}${name}.`);
      const standard = about.default === undefined ? "" : `; default ${written(about.default)}`;
      const must = about.required ? "; required" : standard;
      return [
        `.TP\n\\fB${text(`${prefix}${name}`)}\\fR (${text(`${about.allowed}${must}`)})\n${text(about.doc)}.`,
      ];
    });
}

function heading(name: string, section: number, { version, epoch }: Release): string {
  const date = new Date(epoch * 1000).toISOString().slice(0, 10);
  return `.TH ${name} ${section} ${date} "holdfast ${version}" holdfast`;
}

/** groff_char(7): what would be taken for a request or an escape stands for itself. */
function text(words: string): string {
  return words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("→", "\\(->")
    .replaceAll("–", "\\(en")
    .replaceAll("…", "...")
    .replaceAll("·", "|")
    .replaceAll(/^([.'])/gm, "\\&$1");
}

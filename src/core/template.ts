/**
 * Text with places for an event's own values: `edge/{device}/{stream}`.
 *
 * The names are a closed list, so that a misspelling is found by `holdfast check` and not by the first event:
 * `device`, `stream`, `epoch`, `seq`, `key`, `topic` (the header of that name, which MQTT sources set) and
 * `header:NAME` for any other header. Braces cannot be escaped; no topic or key in use has them.
 */
import assert from "node:assert/strict";
import { HoldfastError } from "./errors.ts";
import type { StoredEvent } from "./event.ts";

export const templateNames = [
  "device",
  "stream",
  "epoch",
  "seq",
  "key",
  "topic",
  "header:NAME",
] as const;
type TemplateName = (typeof templateNames)[number];

export interface Template {
  readonly text: string;
  /** The text for one event; SINK_REFUSED when the event lacks a value that the template asks for. */
  textFor(event: StoredEvent, device: string): string | HoldfastError;
}

type Part =
  | string
  | { readonly name: string; value(event: StoredEvent, device: string): string | null };

/** What a template of these names may look like, for the option that holds it. `forbidden`: in the fixed text. */
export function templatePattern(
  names: readonly TemplateName[] = templateNames,
  forbidden = "",
): RegExp {
  const places = names.map((name) => (name === "header:NAME" ? "header:[^{}]+" : name)).join("|");
  return new RegExp(`^([^{}${forbidden}]|\\{(${places})\\})+$`);
}

/** `text` has passed the option's pattern: what does not fit is our own mistake. */
export function compileTemplate(
  text: string,
  names: readonly TemplateName[] = templateNames,
): Template {
  assert.match(text, templatePattern(names), `Template ${text} was not checked`);
  const parts = text
    .split(/\{([^{}]+)\}/)
    .map((piece, index): Part => (index % 2 === 0 ? piece : placeOf(piece)))
    .filter((part) => part !== "");
  return {
    text,
    textFor(event, device) {
      let filled = "";
      for (const part of parts) {
        if (typeof part === "string") {
          filled += part;
          continue;
        }
        const value = part.value(event, device);
        if (value === null) {
          const why = `Event has no value for {${part.name}}, which ${text} asks for`;
          return new HoldfastError("SINK_REFUSED", why);
        }
        filled += value;
      }
      return filled;
    },
  };
}

function placeOf(name: string): Exclude<Part, string> {
  const header = name === "topic" ? "topic" : name.startsWith("header:") ? name.slice(7) : null;
  if (header !== null) return { name, value: (event) => event.headers[header] ?? null };
  const values: Record<string, (event: StoredEvent, device: string) => string | null> = {
    device: (_event, device) => device,
    stream: (event) => event.stream,
    epoch: (event) => event.epoch,
    seq: (event) => String(event.seq),
    key: (event) => event.key,
  };
  return { name, value: values[name] ?? assert.fail(`Template name ${name} is unknown`) };
}

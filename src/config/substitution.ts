/** `${NAME}` and `${NAME:-default}` in a text of the configuration; `$${` stands for `${`. */
import { environment } from "../core/environment.ts";

export type Substitution =
  | { readonly text: string }
  | { readonly found: string; readonly allowed: string };

/** Quick way out: nearly no text has one. */
export function hasPlace(text: string): boolean {
  return text.includes("${");
}

/** Whether the whole text is one place, so that a number in the environment is a number here. */
export function isOnePlace(text: string): boolean {
  return /^\$\{[^}]*\}$/.test(text);
}

export function fillIn(text: string): Substitution {
  let wrong: Substitution | undefined;
  const filled = text.replaceAll(
    /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?/g,
    (place: string, name: string | undefined, standard: string | undefined) => {
      if (place === "$${") return "${";
      if (name === undefined) {
        wrong ??= { found: "found ${ without a name", allowed: "${NAME}, ${NAME:-default} or $${" };
        return "";
      }
      // As in a shell, :- stands in for an empty variable too.
      const value = environment(name);
      if (standard !== undefined) return value === undefined || value === "" ? standard : value;
      if (value === undefined) {
        const allowed = `a variable that is set, or \${${name}:-default}`;
        wrong ??= { found: `environment variable ${name} is not set`, allowed };
      }
      return value ?? "";
    },
  );
  return wrong ?? { text: filled };
}

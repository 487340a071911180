/** The superstructs behind fields.ts that turn what stands in the file into what the program works with. */
import { coerce, define, unknown, type Struct } from "superstruct";
import { Secret, type SecretSource } from "./secret.ts";

/** A string becomes its number; a bare number stays wrong, since its unit would be a guess. */
export function quantity(
  least: number,
  most: number,
  parse: (text: string) => number | undefined,
): Struct<number> {
  const within = define<number>(
    "quantity",
    (v) => typeof v === "number" && v >= least && v <= most,
  );
  return coerce(within, unknown(), (v) => {
    if (typeof v === "string") return parse(v) ?? Number.NaN;
    return v === undefined ? undefined : Number.NaN;
  });
}

/** Text, or a map that says where the text lies, becomes a Secret. */
export function secretStruct(): Struct<Secret> {
  const isSecret = define<Secret>("secret", (v) => v instanceof Secret);
  return coerce(isSecret, unknown(), (v) => {
    if (typeof v === "string" && v !== "") return new Secret({ text: v });
    return isSource(v) ? new Secret(v) : v;
  });
}

function isSource(v: unknown): v is Exclude<SecretSource, { text: string }> {
  if (typeof v !== "object" || v === null) return false;
  const entries = Object.entries(v);
  const [name, value] = entries[0] ?? [];
  return (
    entries.length === 1 &&
    (name === "file" || name === "credential") &&
    typeof value === "string" &&
    value !== ""
  );
}

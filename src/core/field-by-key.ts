/** An option that is a map with exactly one of several keys: `{ filter: … }`. */
import {
  dynamic,
  object,
  optional as optionalStruct,
  refine,
  unknown,
  type Struct,
} from "superstruct";
import { group, optional, type AnyField, type Field, type Fields, type Infer } from "./field.ts";

type OneKey<M extends Fields> = { [K in keyof M]: { readonly [P in K]: Infer<M[P]> } }[keyof M];

export function byKey<M extends Fields>(
  kinds: M,
  words: { readonly doc: string; readonly example?: unknown },
): Field<OneKey<M>> {
  const allowed = `a map with one of the keys ${Object.keys(kinds).join(", ")}`;
  const names = Object.keys(kinds);
  const { about } = group(
    Object.fromEntries(names.map((name) => [name, optional(kinds[name] as AnyField)])),
    words,
  );
  // With a struct for each the defaults of those that are not there would be filled in.
  const none = object(Object.fromEntries(names.map((name) => [name, optionalStruct(unknown())])));
  const wrong = refine(
    none,
    "problem",
    (v) => Object.keys(v).length === 1 || `Expected ${allowed}`,
  );
  const struct = dynamic((value) => {
    const keys = typeof value === "object" && value !== null ? Object.keys(value) : [];
    const [name = ""] = keys;
    const kind = keys.length === 1 && Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    return (kind === undefined ? wrong : object({ [name]: kind.struct })) as Struct;
  });
  const schema = { ...about.schema, type: "object", minProperties: 1, maxProperties: 1 };
  const chosen = struct as unknown as Struct<OneKey<M>>;
  return { struct: chosen, about: { ...about, allowed, schema, required: true } };
}

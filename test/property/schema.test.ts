import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { create, validate } from "superstruct";
import { compileStream, streamOptions } from "../../src/schema/schema.ts";

const names = fc.constantFrom("a", "b", "toString", "constructor", "0");
const paths = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("."));
const types = fc.constantFrom(
  "string",
  "number?",
  "integer",
  "boolean?",
  "object",
  "array?",
  "any",
  "any?",
);
const payloads = fc.letrec((tie) => ({
  tree: fc.oneof(
    { maxDepth: 3, depthSize: "large" },
    fc.constantFrom(null, 1, 1.5, "x", true),
    fc.array(tie("tree"), { maxLength: 2 }),
    fc.dictionary(names, tie("tree"), { maxKeys: 4 }),
  ),
})).tree;

/** What a path leads to, own members only. */
const at = (value: unknown, path: string): unknown => {
  let here = value;
  for (const name of path.split(".")) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, name)) return undefined;
    here = (here as Record<string, unknown>)[name];
  }
  return here;
};

test("validate() gives a reason that names a field, or none, for any schema and payload", () => {
  fc.assert(
    fc.property(fc.dictionary(paths, types, { maxKeys: 4 }), payloads, (schema, tree) => {
      const value: unknown = JSON.parse(JSON.stringify({ a: tree, b: tree, constructor: tree }));
      // Paths that contradict each other (`a: string`, `a.b: number`) are no schema.
      const [problem] = validate({ schema }, streamOptions.struct, { coerce: true });
      fc.pre(problem === undefined);
      const rules = compileStream("s", create({ schema }, streamOptions.struct));
      const reason = rules.validate(value);
      if (reason !== null) {
        assert.match(reason, /^[\w.]+: found .*, expected .+$/);
        return;
      }
      for (const [path, type] of Object.entries(schema)) {
        const isMissing = at(value, path) === undefined || at(value, path) === null;
        assert.ok(!isMissing || type.endsWith("?") || type === "any", `${path} ${type}`);
      }
    }),
    { numRuns: 500 },
  );
});

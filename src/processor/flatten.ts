/** The step `flatten`: makes one level of nested objects and arrays: `{ a: { b: 1 } }` becomes `{ "a.b": 1 }`. */
import { depthMax, nameCharsMax } from "../core/event.ts";
import { boolean, group, text, type Infer } from "../core/field.ts";
import { isMap } from "../core/path.ts";
import { failed, mapIn } from "./payload.ts";
import type { Step } from "./processor.ts";

export const flattenOptions = group(
  {
    separator: text({ doc: "What stands between the names", default: "." }),
    arrays: boolean({ doc: "Arrays too, their items by number from 0", default: true }),
  },
  { doc: "Makes one level of nested objects and arrays", example: { separator: "_" } },
);

export function flattenStep({ separator, arrays }: Infer<typeof flattenOptions>): Step {
  return {
    process(event) {
      const flat = new Map<string, unknown>();
      let nameChars = 0;
      const walk = (value: unknown, name: string, depth: number): void => {
        const isNested = isMap(value) || (arrays && Array.isArray(value));
        const members = isNested ? Object.entries(value) : [];
        // An empty one says something, and stays.
        if (members.length === 0) {
          nameChars += name.length;
          if (nameChars > nameCharsMax)
            throw failed(`Step flatten makes names of ${nameCharsMax} characters in all at most`);
          flat.set(name, value);
        } else if (depth >= depthMax)
          throw failed(`Step flatten goes ${depthMax} levels deep at most`);
        for (const [key, member] of members) walk(member, `${name}${separator}${key}`, depth + 1);
      };
      for (const [key, member] of Object.entries(mapIn(event, "flatten"))) walk(member, key, 1);
      return [{ ...event, payload: Object.fromEntries(flat) }];
    },
  };
}

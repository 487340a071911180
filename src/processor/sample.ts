/**
 * The step `sample`: lets one of every so many events of a key pass, the first of them first. State: one row for each
 * key, at most `keys`; an evicted key begins anew.
 */
import { group, integer, type Infer } from "../core/field.ts";
import { byOption, keyReader, rowKeyOf, keysOption } from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

export const sampleOptions = group(
  {
    oneOf: integer({ doc: "Of so many events one passes", example: 10, min: 1 }),
    by: byOption(),
    keys: keysOption(),
  },
  { doc: "Lets one of every so many events of a key pass", example: { oneOf: 10 } },
);

interface Row {
  /** How many came since the last that passed, it counted. */
  readonly n: number;
}

export function sampleStep(
  { oneOf, by, keys }: Infer<typeof sampleOptions>,
  tools: StepTools,
): Step {
  const rows = tools.table<Row>(keys);
  const keyOf = keyReader(by);
  return {
    process(event) {
      const key = rowKeyOf(keyOf(event));
      const n = (rows.get(key)?.n ?? 0) % oneOf;
      rows.set(key, { n: n + 1 });
      return n === 0 ? [event] : [];
    },
  };
}

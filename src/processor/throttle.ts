/**
 * The step `throttle`: lets at most so many events of a key pass in any span that begins with one that passed.
 *
 * Time is the events' own; one that is further than the span from its beginning, either way, begins the next. State:
 * one row for each key, at most `keys`; an evicted key begins anew.
 */
import { duration, group, integer, type Infer } from "../core/field.ts";
import { byOption, keyReader, rowKeyOf, keysOption } from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

export const throttleOptions = group(
  {
    every: duration({ doc: "The span", example: "10s", min: "1ms" }),
    max: integer({ doc: "How many pass in it", default: 1, min: 1 }),
    by: byOption(),
    keys: keysOption(),
  },
  { doc: "Lets at most max events of a key pass in each span of time", example: { every: "10s" } },
);

interface Row {
  /** When the span began, and how many have passed since. */
  readonly t: number;
  readonly n: number;
}

export function throttleStep(
  { every, max, by, keys }: Infer<typeof throttleOptions>,
  tools: StepTools,
): Step {
  const rows = tools.table<Row>(keys, ({ t }) => t);
  const keyOf = keyReader(by);
  return {
    process(event) {
      const key = rowKeyOf(keyOf(event));
      const span = rows.get(key);
      const isNew = span === undefined || Math.abs(event.time - span.t) >= every;
      if (!isNew && span.n >= max) return [];
      rows.set(key, isNew ? { t: event.time, n: 1 } : { t: span.t, n: span.n + 1 });
      return [event];
    },
  };
}

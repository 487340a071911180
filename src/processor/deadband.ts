/**
 * The step `deadband`, report by exception: lets an event pass when its value has moved by more than a band since the
 * last one that passed, and otherwise now and then, as a sign of life.
 *
 * Time is the events' own, in either direction: a clock that jumps back by more than `atLeastEvery` makes an event
 * pass and no more. State: one row for each key, at most `keys`; an evicted key begins anew, so that its next passes.
 */
import { checked, duration, group, number, optional, type Infer } from "../core/field.ts";
import { pathOf } from "../core/path.ts";
import { byOption, fieldOption, keyReader, numberIn, rowKeyOf, keysOption } from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

export const deadbandOptions = checked(
  group(
    {
      field: fieldOption("A number in the payload; an event without it passes"),
      by: byOption(),
      delta: optional(number({ doc: "The band, as a difference of values", example: 0.2 })),
      percent: optional(number({ doc: "The band, in percent of the last value", example: 5 })),
      atLeastEvery: optional(
        duration({ doc: "An event passes after this long, whatever its value", example: "10m" }),
      ),
      keys: keysOption(),
    },
    {
      doc: "Lets an event pass when its value has moved by more than delta or percent since the last that passed",
      example: { field: "temperature", delta: 0.2, atLeastEvery: "10m" },
    },
  ),
  ({ delta, percent }) => {
    if ((delta === undefined) === (percent === undefined)) return "either delta or percent";
    return (delta ?? percent ?? 0) >= 0 ? null : "the band is not below 0";
  },
);

interface Row {
  /** Value and time of the last that passed. */
  readonly v: number;
  readonly t: number;
}

export function deadbandStep(
  { field, by, delta, percent, atLeastEvery, keys }: Infer<typeof deadbandOptions>,
  tools: StepTools,
): Step {
  const rows = tools.table<Row>(keys, ({ t }) => t);
  const path = pathOf(field);
  const keyOf = keyReader(by);
  return {
    process(event) {
      const value = numberIn(event, path, "deadband");
      if (value === undefined) return [event];
      const key = rowKeyOf(keyOf(event));
      const last = rows.get(key);
      if (last !== undefined) {
        const band = delta ?? (Math.abs(last.v) * (percent ?? 0)) / 100;
        const isDue = Math.abs(event.time - last.t) >= (atLeastEvery ?? Number.POSITIVE_INFINITY);
        if (Math.abs(value - last.v) <= band && !isDue) return [];
      }
      rows.set(key, { v: value, t: event.time });
      return [event];
    },
  };
}

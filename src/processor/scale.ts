/** The step `scale`: makes one unit of another, by name, or by factor and offset. */
import { checked, group, integer, number, oneOf, optional, type Infer } from "../core/field.ts";
import { pathOf, withValueAt } from "../core/path.ts";
import { rounded } from "./cel.ts";
import { fieldOption, mapIn, numberIn } from "./payload.ts";
import type { Step } from "./processor.ts";
import { conversion, unitNames } from "./units.ts";

export const scaleOptions = checked(
  group(
    {
      field: fieldOption("A number in the payload; where it is missing the event passes as it is"),
      factor: number({ doc: "It is multiplied by this, before the offset is added", default: 1 }),
      offset: number({ doc: "This is added to it", default: 0 }),
      from: optional(oneOf(unitNames, { doc: "The unit that it has", example: "F" })),
      to: optional(oneOf(unitNames, { doc: "The unit that it gets", example: "C" })),
      round: optional(integer({ doc: "Digits behind the point", example: 2, max: 15 })),
      as: optional(fieldOption("Where the result goes; left out: it takes the field's place")),
    },
    {
      doc: "Makes one unit of another: from and to, or factor and offset",
      example: { field: "temperature", from: "F", to: "C", round: 1 },
    },
  ),
  ({ from, to, factor, offset }) => {
    if ((from === undefined) !== (to === undefined)) return "from and to stand together";
    if (from === undefined || to === undefined) return null;
    if (factor !== 1 || offset !== 0) return "either from and to, or factor and offset";
    return conversion(from, to) === null ? `${to} is no unit of what ${from} measures` : null;
  },
);

export function scaleStep(options: Infer<typeof scaleOptions>): Step {
  const { from = "1", to = "1", round } = options;
  const named = options.from === undefined ? options : conversion(from, to);
  const { factor, offset } = named ?? options;
  const path = pathOf(options.field);
  const target = options.as === undefined ? path : pathOf(options.as);
  return {
    process(event) {
      const before = mapIn(event, "scale");
      const found = numberIn(event, path, "scale");
      if (found === undefined) return [event];
      const value = found * factor + offset;
      const result = round === undefined ? value : rounded(value, round);
      return [{ ...event, payload: withValueAt(before, target, result) }];
    },
  };
}

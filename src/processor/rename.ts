/** The step `rename`: gives fields of the payload other names or places. */
import { mapOf } from "../core/field.ts";
import { pathOf, valueAt, withoutValueAt, withValueAt } from "../core/path.ts";
import { fieldOption, mapIn } from "./payload.ts";
import type { Step } from "./processor.ts";

export const renameOptions = mapOf(fieldOption("Its new path in the payload", "temperature"), {
  doc: "Fields of the payload and their new names; one that is not there is passed over",
  example: { t: "temperature", "pos.lat": "latitude" },
  names: /^.{1,256}$/s,
});

/** All old names are read before any new one is written, so that two fields can change places. */
export function renameStep(options: Readonly<Record<string, string>>): Step {
  const moves = Object.entries(options).map(([from, to]) => [pathOf(from), pathOf(to)] as const);
  return {
    process(event) {
      const before = mapIn(event, "rename");
      const found = moves.flatMap(([from, to]) => {
        const value = valueAt(before, from);
        return value === undefined ? [] : [{ from, to, value }];
      });
      let payload = before;
      for (const { from } of found) payload = withoutValueAt(payload, from);
      for (const { to, value } of found) payload = withValueAt(payload, to, value);
      return [{ ...event, payload }];
    },
  };
}

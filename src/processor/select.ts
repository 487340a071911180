/** The step `select`: keeps the named fields of the payload and leaves out the others. */
import { listOf } from "../core/field.ts";
import { pathOf, valueAt, withValueAt } from "../core/path.ts";
import { fieldOption, mapIn } from "./payload.ts";
import type { Step } from "./processor.ts";

export const selectOptions = listOf(fieldOption("A path into the payload"), {
  doc: "Keeps these fields of the payload alone; one that is not there is passed over",
  example: ["device", "place.floor", "temperature"],
  min: 1,
});

export function selectStep(options: readonly string[]): Step {
  const paths = options.map(pathOf);
  return {
    process(event) {
      const before = mapIn(event, "select");
      let payload: Record<string, unknown> = {};
      for (const path of paths) {
        const found = valueAt(before, path);
        if (found !== undefined) payload = withValueAt(payload, path, found);
      }
      return [{ ...event, payload }];
    },
  };
}

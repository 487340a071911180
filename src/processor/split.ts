/**
 * The step `split`: makes events of the items of an array. An item that is an object is laid over the other fields of
 * the payload; anything else takes the array's own name. A payload that is itself an array gives its items.
 */
import { readTime } from "../core/event-time.ts";
import { group, optional, type Infer } from "../core/field.ts";
import { isMap, pathOf, valueAt, withoutValueAt, withValueAt } from "../core/path.ts";
import { emitsMax } from "../state/effects.ts";
import { failed, fieldOption, fieldsMax, mapIn } from "./payload.ts";
import type { Event, Step } from "./processor.ts";

export const splitOptions = group(
  {
    field: optional(
      fieldOption(
        "The array; left out: the payload is one. Without it the event passes",
        "readings",
      ),
    ),
    time: optional(
      fieldOption("A path to an item's own time (s, ms or ISO 8601), where it has one", "ts"),
    ),
  },
  {
    doc: "Makes an event of each item of an array, with the other fields of the payload",
    example: { field: "readings" },
  },
);

export function splitStep({ field, time }: Infer<typeof splitOptions>): Step {
  const path = field === undefined ? null : pathOf(field);
  const timePath = time === undefined ? null : pathOf(time);
  return {
    process(event) {
      const items = path === null ? event.payload : valueAt(event.payload, path);
      if (path !== null && (items === undefined || items === null)) return [event];
      if (!Array.isArray(items))
        throw failed(`Step split asks for an array in ${field ?? "the payload"}`);
      const rest = path === null ? {} : withoutValueAt(mapIn(event, "split"), path);
      checkAmount(items.length, Object.keys(rest).length);
      return items.map((item: unknown) => {
        const payload = isMap(item)
          ? { ...rest, ...item }
          : withValueAt(rest, path ?? ["value"], item);
        return { ...event, time: timeOf(event, item, timePath), payload };
      });
    },
  };
}

/** Before they are made: of 1 MiB an array may have 500,000 items, and each of them gets what stands beside it. */
function checkAmount(events: number, fieldsBeside: number): void {
  if (events > emitsMax) {
    throw failed(`Step split makes ${emitsMax} events of one at most: the array has ${events}`);
  }
  if (events * fieldsBeside > fieldsMax) {
    throw failed(
      `Step split makes ${fieldsMax} fields of one event at most: ${events} items have ${fieldsBeside} beside them`,
    );
  }
}

function timeOf(event: Event, item: unknown, path: readonly string[] | null): number {
  const found = path === null ? undefined : valueAt(item, path);
  if (found === undefined || found === null) return event.time;
  const time = readTime(found);
  if (time !== null) return time;
  throw failed(`Step split asks for a time (s, ms or ISO 8601) in ${path?.join(".")}`);
}

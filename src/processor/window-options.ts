/** What the user says of a window. */
import { messageOf } from "../core/errors.ts";
import {
  checked,
  duration,
  group,
  integer,
  mapOf,
  optional,
  text,
  type Infer,
} from "../core/field.ts";
import { parseAggregate } from "./aggregate.ts";
import { byOption, rowsMost, rowsStandard } from "./payload.ts";

/** An event lies in this many sliding windows at the most: each of them costs as much as a tumbling one. */
const overlapMax = 60;
/** More than one event can touch, so that what it touches is never what must go for it. */
const windowsMin = 2 * overlapMax;

const ownNames = ["start", "end", "key", "provisional", "evicted"];

export const windowOptions = checked(
  group(
    {
      tumbling: optional(
        duration({
          doc: "Windows of this length, one behind the other",
          example: "1m",
          min: "1ms",
        }),
      ),
      sliding: optional(
        checked(
          group(
            {
              size: duration({ doc: "How long each is", example: "5m", min: "1ms" }),
              every: duration({ doc: "How far apart they begin", example: "1m", min: "1ms" }),
            },
            { doc: "Windows that overlap" },
          ),
          ({ size, every }) =>
            every <= size && size <= every * overlapMax
              ? null
              : `every is at most size, and at least a part in ${overlapMax} of it`,
        ),
      ),
      session: optional(
        duration({
          doc: "A window lasts while events follow each other closer than this",
          example: "5m",
          min: "1ms",
        }),
      ),
      count: optional(
        integer({ doc: "Windows of so many events of a key, as they come", example: 100, min: 1 }),
      ),
      by: byOption(),
      lateness: duration({
        doc: "How much later than a newer one an event may come and still count; later ones go to STREAM-late",
        default: "0s",
      }),
      aggregate: mapOf(
        text({
          doc: "count(), or sum, avg, min, max, first, last, stddev, median, p95, rate or timeWeightedAvg of a field",
          example: "avg(temperature)",
          problem: aggregateProblem,
        }),
        {
          doc: "What its result tells, beside start, end, key and count",
          example: { mean: "avg(temperature)", max: "max(temperature)" },
          names: /^.{1,64}$/s,
        },
      ),
      ahead: duration({
        doc: "An event whose time lies this far past its receipt fails: it would close windows that are not over",
        default: "1h",
      }),
      windows: integer({
        doc: "The most windows open at once, over all keys; past it the one that rested longest closes early",
        default: rowsStandard,
        min: windowsMin,
        max: rowsMost,
      }),
    },
    {
      doc: "Makes one event of all those of a key in a window: tumbling, sliding, session or count",
      example: { tumbling: "1m", lateness: "10s", aggregate: { mean: "avg(temperature)" } },
    },
  ),
  ({ tumbling, sliding, session, count, aggregate }) => {
    const kinds = [tumbling, sliding, session, count].filter((each) => each !== undefined);
    if (kinds.length !== 1) return "one of tumbling, sliding, session and count";
    const taken = Object.entries(aggregate).find(
      ([name, what]) => ownNames.includes(name) || (name === "count" && what !== "count()"),
    );
    return taken === undefined ? null : `${taken[0]} is in every result already`;
  },
);
export type WindowSettings = Infer<typeof windowOptions>;

function aggregateProblem(text: string): string | null {
  try {
    parseAggregate(text);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/**
 * The step `join`: gives an event what another stream said last of its key. The other stream is one that the processor
 * reads; its events are remembered and go no further.
 *
 * Streams are read beside each other, so that "last" is what was read last, not the newest by time: `within` bounds how
 * far the two may be apart. State: one row for each key, at most `keys`, least recently said goes first.
 */
import { duration, group, oneOf, optional, text, type Infer } from "../core/field.ts";
import { pathOf, withValueAt } from "../core/path.ts";
import {
  byOption,
  failed,
  fieldOption,
  keyReader,
  mapIn,
  rowKeyOf,
  keysOption,
} from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

/** What is remembered of one event, bytes of JSON: with 10,000 keys it must stay what a small device can hold. */
const payloadBytesMax = 4 * 1024;

export const joinOptions = group(
  {
    stream: text({ doc: "The other stream, one of the processor's from", example: "weather" }),
    by: byOption(),
    on: text({
      doc: "What the other stream's events go by: key, or a path into their payload",
      default: "key",
    }),
    as: fieldOption("Where its payload goes", "weather"),
    within: optional(
      duration({
        doc: "The most that their times may be apart; left out: any time",
        example: "10m",
      }),
    ),
    missing: oneOf(["pass", "drop", "fail"], {
      doc: "What becomes of an event for which there is none: pass (as it is), drop or fail",
      default: "pass",
    }),
    keys: keysOption(),
  },
  {
    doc: "Gives an event what another stream said last of its key",
    example: { stream: "weather", as: "weather" },
  },
);

interface Row {
  readonly t: number;
  readonly p: unknown;
}

export function joinStep(options: Infer<typeof joinOptions>, tools: StepTools): Step {
  const { stream, within = Number.POSITIVE_INFINITY, missing } = options;
  const rows = tools.table<Row>(options.keys, ({ t }) => t);
  const keyOf = keyReader(options.by);
  const keyOfOther = keyReader(options.on);
  const target = pathOf(options.as);
  return {
    process(event) {
      if (event.stream === stream) {
        const bytes = Buffer.byteLength(JSON.stringify(event.payload));
        if (bytes > payloadBytesMax) {
          throw failed(
            `Step join remembers ${payloadBytesMax} bytes of a payload at most: ${bytes}`,
          );
        }
        rows.set(rowKeyOf(keyOfOther(event)), { t: event.time, p: event.payload });
        return [];
      }
      const last = rows.get(rowKeyOf(keyOf(event)));
      if (last !== undefined && Math.abs(event.time - last.t) <= within) {
        return [{ ...event, payload: withValueAt(mapIn(event, "join"), target, last.p) }];
      }
      if (missing === "fail")
        throw failed(`Step join knows nothing of ${keyOf(event)} in ${stream}`);
      return missing === "pass" ? [event] : [];
    },
  };
}

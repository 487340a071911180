/**
 * The step `dedupe`: drops an event whose key has passed within a time. A repetition does not prolong it.
 *
 * Time is the events' own, either way. State: one row for each key that was received within that time, at most `keys`;
 * past that the oldest is evicted, counted, and its repetition would pass.
 */
import { duration, group, type Infer } from "../core/field.ts";
import { byOption, keyReader, rowKeyOf, keysOption } from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

/** Rows that have had their time go as others come, so many for each: more than come, so that all go. */
const sweptAtOnce = 4;

export const dedupeOptions = group(
  {
    by: byOption(),
    within: duration({ doc: "How long a key is remembered", default: "1h", min: "1ms" }),
    keys: keysOption(),
  },
  {
    doc: "Drops an event when one of its key has passed within a time; one without a key passes",
    example: { by: "id", within: "10m" },
  },
);

interface Row {
  readonly t: number;
  /** When it was received, where that is another time. */
  readonly r?: number;
}

export function dedupeStep(
  { by, within, keys }: Infer<typeof dedupeOptions>,
  tools: StepTools,
): Step {
  const rows = tools.table<Row>(keys, ({ t, r = t }) => r);
  const keyOf = keyReader(by);
  /**
   * Rows lie in the order in which they were written. By receipt: the time of an event says nothing of other keys, where
   * a backlog is uploaded beside live events, or one sensor's clock is wrong.
   */
  const sweep = (now: number): void => {
    let left = sweptAtOnce;
    for (const [key, { t, r = t }] of rows.entries()) {
      if (left-- === 0 || Math.abs(now - r) < within) return;
      rows.delete(key);
    }
  };
  return {
    process(event) {
      const key = keyOf(event);
      if (key === null) return [event];
      const seen = rows.get(rowKeyOf(key));
      if (seen !== undefined && Math.abs(event.time - seen.t) < within) return [];
      const { time, receivedAt } = event;
      rows.set(rowKeyOf(key), { t: time, ...(receivedAt !== time && { r: receivedAt }) });
      sweep(receivedAt);
      return [event];
    },
  };
}

/**
 * The step `alert`: makes an event when a value goes beyond a threshold and stays there for a time, and one when it has
 * come back beyond another: once each.
 *
 *   quiet ── beyond the threshold ──► rising ── for `hold` ──► firing ── back at `clear` ──► falling ── for `clearHold` ──► quiet
 *     ▲           any value on this side ──┘                     ▲         any value beyond it ──┘
 *
 * Time is the events' own, so that a source that goes silent neither fires nor clears; where it goes back, a hold
 * begins anew, and goes on as it was when that was a late event and time is where it was again. State: one row for each key, at most `keys`; an evicted key begins quiet.
 */
import { checked, duration, group, number, optional, text, type Infer } from "../core/field.ts";
import { pathOf } from "../core/path.ts";
import { byOption, fieldOption, keyReader, numberIn, rowKeyOf, keysOption } from "./payload.ts";
import type { Event, Step, StepTools } from "./processor.ts";

export const alertOptions = checked(
  group(
    {
      name: text({ doc: "What the alert is called in its events", default: "alert" }),
      field: fieldOption("A number in the payload; an event without it says nothing"),
      by: byOption(),
      above: optional(number({ doc: "It fires above this value", example: 80 })),
      below: optional(number({ doc: "It fires below this value", example: 2 })),
      clear: optional(
        number({
          doc: "It clears at this value or on its far side; left out: at the threshold",
          example: 75,
        }),
      ),
      hold: duration({ doc: "How long the value must stay beyond before it fires", default: "0s" }),
      clearHold: duration({ doc: "How long it must be back before it clears", default: "0s" }),
      keys: keysOption(),
    },
    {
      doc: "Makes an event when a value goes beyond a threshold, and one when it is back: once each",
      example: { name: "too hot", field: "temperature", above: 80, clear: 75, hold: "30s" },
    },
  ),
  ({ above, below, clear }) => {
    if ((above === undefined) === (below === undefined)) return "either above or below";
    if (clear === undefined) return null;
    if (above !== undefined && clear > above) return "clear is not beyond above";
    return below !== undefined && clear < below ? "clear is not beyond below" : null;
  },
);

interface Row {
  readonly firing: boolean;
  /** Since when the value says otherwise; null: it does not. */
  readonly since: number | null;
  /** Since when it was, before time went back. */
  readonly was?: number;
  /** When it last changed between quiet and firing. */
  readonly t: number;
}

export function alertStep(options: Infer<typeof alertOptions>, tools: StepTools): Step {
  const { above, below, hold, clearHold } = options;
  const threshold = above ?? below ?? 0;
  const clear = options.clear ?? threshold;
  const isAbove = above !== undefined;
  const rows = tools.table<Row>(options.keys, ({ t }) => t);
  const path = pathOf(options.field);
  const keyOf = keyReader(options.by);
  const isBeyond = (value: number): boolean => (isAbove ? value > threshold : value < threshold);
  const isBack = (value: number): boolean => (isAbove ? value <= clear : value >= clear);
  const told = (event: Event, value: number, row: Row): Event => ({
    ...event,
    payload: {
      alert: options.name,
      state: row.firing ? "firing" : "cleared",
      key: keyOf(event),
      field: options.field,
      value,
      threshold: row.firing ? threshold : clear,
      since: row.since ?? event.time,
    },
  });
  return {
    process(event) {
      const value = numberIn(event, path, "alert");
      if (value === undefined) return [];
      const key = rowKeyOf(keyOf(event));
      const row = rows.get(key) ?? { firing: false, since: null, t: event.time };
      const isOther = row.firing ? isBack(value) : isBeyond(value);
      if (!isOther) {
        // A quiet key that never rose needs no row.
        if (row.since !== null) keep(key, { firing: row.firing, since: null, t: row.t });
        return [];
      }
      const { since, was } = heldAt(event.time, row);
      if (event.time - since < (row.firing ? clearHold : hold)) {
        if (since !== row.since) {
          const { firing, t } = row;
          keep(key, { firing, since, t, ...(was !== undefined && { was }) });
        }
        return [];
      }
      keep(key, { firing: !row.firing, since: null, t: event.time });
      return [told(event, value, { firing: !row.firing, since, t: event.time })];
    },
  };

  function keep(key: string, row: Row): void {
    if (row.firing || row.since !== null) rows.set(key, row);
    else rows.delete(key);
  }
}

/** Since when the value says otherwise, with an event of `time` that says so too. */
function heldAt(time: number, { since, was }: Row): { since: number; was?: number | undefined } {
  if (since === null) return { since: time };
  if (time < since) return { since: time, was: was ?? since };
  return was !== undefined && time >= was ? { since: was } : { since, was };
}

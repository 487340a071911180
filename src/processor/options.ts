/** What the user says of a processor. */
import {
  boolean,
  checked,
  duration,
  either,
  group,
  integer,
  listOf,
  oneOf,
  optional,
  size,
  text,
} from "../core/field.ts";
import { stepOptions } from "./kinds.ts";

const streamName = text({ doc: "A stream", example: "readings" });

const options = group(
  {
    from: either(
      streamName,
      listOf(streamName, { doc: "Several streams", min: 1 }),
      (value) => !Array.isArray(value),
      { doc: "The stream or streams that it reads", example: "readings" },
    ),
    steps: listOf(stepOptions, {
      doc: "What happens to each event, in this order, before the handler",
      default: [],
      example: [{ filter: "has(payload.temperature)" }],
    }),
    handler: optional(
      text({
        doc: "A module whose default export is a handler, relative to this file",
        example: "./anomalies.js",
      }),
    ),
    isolate: boolean({
      doc: "The handler runs in a thread of its own: for one that computes for long; what it does to state and streams is checked when it has ended",
      default: false,
    }),
    to: optional(
      text({
        doc: "The stream that takes what comes out; left out: only what the handler emits is kept",
        example: "alarms",
      }),
    ),
    batch: group(
      {
        max: integer({ doc: "The most events in one batch", default: 500, min: 1, max: 10_000 }),
        wait: duration({ doc: "The longest a batch waits to fill", default: "1s", max: "1m" }),
      },
      { doc: "How events are taken together: one batch is one unit of work" },
    ),
    timeout: duration({
      doc: "The longest that steps and handler may take for one batch",
      default: "30s",
      min: "10ms",
      max: "1h",
    }),
    state: group(
      {
        maxKeys: integer({ doc: "The most keys", default: 100_000, min: 1 }),
        maxBytes: size({ doc: "The most bytes of keys and values", default: "64MiB" }),
      },
      { doc: "What its handler may remember; beyond it new keys fail their event" },
    ),
    order: oneOf(["key", "none"], {
      doc: "While an event waits for a retry, later ones of its key wait behind it (key) or do not (none)",
      default: "key",
    }),
    retry: group(
      {
        attempts: integer({
          doc: "How often an event is tried in all before onFailure decides",
          default: 5,
          min: 1,
          max: 1000,
        }),
        backoff: duration({ doc: "The delay before the first retry", default: "1s", min: "1ms" }),
        maxBackoff: duration({ doc: "The longest delay", default: "5m", min: "1ms", max: "1d" }),
      },
      { doc: "What happens to an event that fails" },
    ),
    onFailure: oneOf(["dead-letter", "block", "drop"], {
      doc: "After the last attempt: dead-letter, block (try for ever, its key waits) or drop (counted)",
      default: "dead-letter",
    }),
  },
  { doc: "Turns events of one or more streams into others" },
);

/** What its members cannot judge alone. A join whose stream is not read would know nothing for ever. */
export const processorOptions = checked(options, ({ from, steps, handler, isolate }) => {
  if (isolate && handler === undefined) return "isolate asks for a handler";
  const read = [from].flat();
  for (const step of steps) {
    if ("join" in step && !read.includes(step.join.stream))
      return `its step join asks for stream ${step.join.stream}, which is not in from`;
  }
  return null;
});

/** The file of `holdfast test`: what goes into a configuration's processors, and what is to come out. */
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { HoldfastError, messageOf } from "../core/errors.ts";
import {
  anything,
  boolean,
  checked,
  duration,
  group,
  listOf,
  mapOf,
  optional,
  text,
  type Infer,
} from "../core/field.ts";
import { readTime } from "../core/event-time.ts";

const anyName = /^.{1,256}$/s;

const givenOptions = checked(
  group(
    {
      stream: optional(text({ doc: "Where the event goes in" })),
      payload: anything({ doc: "What it holds: JSON, or text where the stream's format is text" }),
      topic: optional(text({ doc: "The MQTT topic that it came by" })),
      headers: mapOf(text({ doc: "A header" }), { doc: "Its other headers", names: anyName }),
      at: optional(
        duration({ doc: "When it comes, counted from the start; left out: when the last one did" }),
      ),
      wait: optional(duration({ doc: "In place of an event: so much time goes by" })),
    },
    { doc: "An event, or time that goes by" },
  ),
  ({ stream, wait }) =>
    (stream === undefined) === (wait === undefined) ? "either stream and payload, or wait" : null,
);

const caseOptions = group(
  {
    name: text({ doc: "What it shows" }),
    given: listOf(givenOptions, { doc: "What goes in, in order", min: 1 }),
    expect: mapOf(listOf(anything({ doc: "A payload" }), { doc: "Payloads, in order" }), {
      doc: "What comes out, by stream; a stream that is not named is not looked at",
      names: anyName,
    }),
    deadLetters: mapOf(
      listOf(
        group(
          {
            code: optional(text({ doc: "The error's code" })),
            reason: optional(text({ doc: "A part of the reason" })),
            payload: anything({ doc: "What it holds" }),
          },
          { doc: "A dead letter" },
        ),
        { doc: "Dead letters, in order" },
      ),
      { doc: "What is refused, by stream; others fail the case", names: anyName },
    ),
    partial: boolean({ doc: "Payloads may hold more fields than is expected", default: false }),
  },
  { doc: "One case: it begins with nothing remembered" },
);

const caseFileOptions = group(
  {
    config: text({ doc: "The configuration, relative to this file", default: "agent.yaml" }),
    start: text({ doc: "What the clock shows at first", default: "2026-01-01T00:00:00Z" }),
    cases: listOf(caseOptions, { doc: "The cases", min: 1 }),
  },
  { doc: "Cases for the processors of one configuration" },
);

export type CaseFile = Omit<Infer<typeof caseFileOptions>, "start"> & { readonly start: number };
export type Case = CaseFile["cases"][number];

/** @throws HoldfastError CONFIG_UNREADABLE, CONFIG_INVALID */
export async function readCases(path: string): Promise<CaseFile> {
  let value: unknown;
  try {
    value = parse(await readFile(path, "utf8"));
  } catch (cause) {
    const why = `Cannot read ${path}: ${messageOf(cause)}`;
    throw new HoldfastError("CONFIG_UNREADABLE", why, { cause });
  }
  const [error, file] = caseFileOptions.struct.validate(value, { coerce: true });
  if (error !== undefined) {
    const [failure] = error.failures();
    const place = failure?.path.join(".") ?? "";
    const why =
      failure?.refinement === "problem" ? failure.message : "this is not what is asked for";
    throw new HoldfastError("CONFIG_INVALID", `Cannot use ${path}: ${place || "the file"}: ${why}`);
  }
  const start = readTime(file.start);
  if (start !== null) return { ...file, start };
  throw new HoldfastError("CONFIG_INVALID", `Cannot use ${path}: start: no time in ISO 8601`);
}

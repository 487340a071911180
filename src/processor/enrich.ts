/**
 * The step `enrich`: gives an event the columns of a row in a table file (lookup-file.ts), such as a sensor's place.
 *
 * The file is looked at every few seconds while events come, and not waited for: those that come meanwhile get what
 * the table said before. A replay gets what it says then.
 */
import { resolve } from "node:path";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { group, listOf, oneOf, optional, text, type Infer } from "../core/field.ts";
import { nearestName } from "../core/nearest.ts";
import { pathOf, valueAt, withValueAt } from "../core/path.ts";
import { LookupFile, NoSuchColumn } from "./lookup-file.ts";
import { byOption, failed, fieldOption, keyReader, mapIn } from "./payload.ts";
import type { Step, StepTools } from "./processor.ts";

/** Between two looks at the file, ms: a person who saves it waits no longer, and a look is one stat(2). */
const lookEveryMs = 5_000;

export const enrichOptions = group(
  {
    table: text({
      doc: "A CSV or JSON file, relative to this one: named columns, or a list or map of objects",
      example: "./sensors.csv",
      pattern: /\.(csv|json)$/,
      allowed: "the path of a file whose name ends in .csv or .json",
    }),
    by: byOption(),
    column: text({ doc: "The column that holds what it goes by", default: "key" }),
    fields: optional(
      listOf(text({ doc: "A column" }), {
        doc: "The columns that the event gets; left out: all but the one it goes by",
        example: ["place", "floor"],
        min: 1,
      }),
    ),
    as: optional(
      fieldOption("Where they go together; left out: beside the payload's own fields", "sensor"),
    ),
    missing: oneOf(["pass", "drop", "fail"], {
      doc: "What becomes of an event that is not in the table: pass (as it is), drop or fail",
      default: "pass",
    }),
  },
  {
    doc: "Gives an event what a table in a file says of its key",
    example: { table: "./sensors.csv", by: "device", column: "device" },
  },
);

interface TableProblem {
  /** The option that is wrong. */
  readonly option: "table" | "column";
  readonly found: string;
  readonly allowed: string;
  readonly nearest?: string;
}

/** Why the table that `options` name cannot be used; null: it can, or the options are wrong themselves. */
export async function tableProblem(
  options: unknown,
  baseDir: string,
): Promise<TableProblem | null> {
  const [error, value] = enrichOptions.struct.validate(options, { coerce: true });
  if (error !== undefined) return null;
  const { table, column } = value;
  try {
    await new LookupFile(resolve(baseDir, table), column).refresh();
    return null;
  } catch (thrown) {
    if (!(thrown instanceof HoldfastError)) throw thrown;
    const { cause, message } = thrown;
    if (cause instanceof NoSuchColumn && valueAt(options, ["column"]) !== undefined) {
      const allowed = `a column of the table: ${cause.columns.join(", ")}`;
      const nearest = nearestName(column, cause.columns);
      return { option: "column", found: cause.message, allowed, ...(nearest && { nearest }) };
    }
    const allowed = `a .csv or .json table with a column ${column}, another value in each row`;
    return { option: "table", found: message, allowed };
  }
}

export function enrichStep(options: Infer<typeof enrichOptions>, tools: StepTools): Step {
  const { column, fields, missing } = options;
  const { clock, log } = tools;
  const file = new LookupFile(resolve(tools.baseDir, options.table), column);
  const keyOf = keyReader(options.by);
  const target = options.as === undefined ? null : pathOf(options.as);
  let nextLookMs = 0;
  let isLooking = false;
  const look = async (): Promise<void> => {
    try {
      if (await file.refresh()) log.info(`Table ${options.table} was read anew`);
    } catch (thrown) {
      log.warn(`${messageOf(thrown)}; what it said before stands`);
    }
    isLooking = false;
    nextLookMs = clock.monotonicMs() + lookEveryMs;
  };
  return {
    async open() {
      await file.refresh();
      nextLookMs = clock.monotonicMs() + lookEveryMs;
    },
    process(event) {
      if (!isLooking && clock.monotonicMs() >= nextLookMs) {
        isLooking = true;
        // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
        look();
      }
      const key = keyOf(event);
      const row = key === null ? undefined : file.get(key);
      if (row === undefined) {
        if (missing === "fail") throw failed(`Table ${options.table} has no ${column} ${key}`);
        return missing === "pass" ? [event] : [];
      }
      const names = fields ?? Object.keys(row).filter((name) => name !== column);
      const chosen = names.filter((name) => Object.hasOwn(row, name));
      const found = Object.fromEntries(chosen.map((name) => [name, row[name]]));
      const payload = mapIn(event, "enrich");
      return [
        {
          ...event,
          payload: target ? withValueAt(payload, target, found) : { ...payload, ...found },
        },
      ];
    },
  };
}

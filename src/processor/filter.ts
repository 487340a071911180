/**
 * The step `filter`: lets an event pass while a CEL expression says true. The door of the CEL package.
 *
 * Variables: `payload` (as the stream's format says), `key` (text or null), `time` (a CEL timestamp, so that
 * `time.getHours()` and `time - duration("1h")` work), `headers`, `stream`, `seq` (an int).
 *
 * JSON knows one kind of number, CEL two that do not mix. What comes out of JSON is a CEL double here, and
 * arithmetic between int and double gives double, so that `payload.temperature * 2 > 40` means what it says.
 * Division of two literal ints stays whole, as in CEL.
 *
 * An expression that meets what it cannot judge (a field that is missing, a text where it compares numbers), or
 * that gives anything but true or false, fails that event: neither passing nor dropping it would be right.
 * `has(payload.temperature) && …` is how one says that the field may be missing.
 */
import { Environment, type ParseResult } from "@marcbachmann/cel-js";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { text } from "../core/field.ts";
import type { Event, Step } from "./processor.ts";

export const filterOptions = text({
  doc: "Lets an event pass while this CEL expression over payload, key, time, headers, stream and seq is true",
  example: "has(payload.temperature) && payload.temperature > 20",
  allowed: "a CEL expression that gives true or false",
  problem: expressionProblem,
});

/** @throws HoldfastError CONFIG_INVALID when the expression does not compile */
export function filterStep(expression: string): Step {
  const evaluate = compile(expression);
  return {
    process(event) {
      return isLetThrough(evaluate, expression, event) ? [event] : [];
    },
  };
}

/** What is wrong with an expression, in one sentence; null when it compiles and can give a boolean. */
export function expressionProblem(expression: string): string | null {
  try {
    compile(expression);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function compile(expression: string): ParseResult {
  let parsed: ParseResult;
  try {
    parsed = environment().parse(expression);
  } catch (cause) {
    throw invalid(expression, cause);
  }
  const checked = parsed.check();
  if (!checked.valid) throw invalid(expression, checked.error);
  if (checked.type !== "bool" && checked.type !== "dyn") {
    throw invalid(
      expression,
      new Error(`it gives ${checked.type ?? "nothing"}, not true or false`),
    );
  }
  return parsed;
}

function isLetThrough(evaluate: ParseResult, expression: string, event: Event): boolean {
  let result: unknown;
  try {
    result = evaluate({
      payload: event.payload,
      key: event.key,
      time: new Date(event.time),
      headers: event.headers,
      stream: event.stream,
      seq: BigInt(event.seq),
    });
  } catch (cause) {
    const why = `Filter ${quoted(expression)} failed: ${summaryOf(cause)}`;
    throw new HoldfastError("HANDLER_FAILED", why, { cause });
  }
  if (typeof result === "boolean") return result;
  const why = `Filter ${quoted(expression)} failed: it gave ${typeof result}, not true or false`;
  throw new HoldfastError("HANDLER_FAILED", why);
}

function invalid(expression: string, cause: unknown): HoldfastError {
  const why = `CEL expression ${quoted(expression)} does not compile: ${summaryOf(cause)}`;
  return new HoldfastError("CONFIG_INVALID", why, { cause });
}

/** The package's own sentence without the drawing of the expression below it. */
function summaryOf(thrown: unknown): string {
  if (thrown instanceof Error && "summary" in thrown && typeof thrown.summary === "string") {
    return thrown.summary;
  }
  return messageOf(thrown);
}

/** At most 120 characters of an expression in a message: a reason is bounded, and the file has the rest. */
function quoted(expression: string): string {
  const line = expression.replaceAll(/\s+/g, " ").trim();
  return JSON.stringify(line.length > 120 ? `${line.slice(0, 119)}…` : line);
}

const arithmetic: Readonly<Record<string, (left: number, right: number) => number>> = {
  "+": (left, right) => left + right,
  "-": (left, right) => left - right,
  "*": (left, right) => left * right,
  "/": (left, right) => left / right,
  "%": (left, right) => left % right,
};

function environment(): Environment {
  const built = new Environment({ homogeneousAggregateLiterals: false })
    .registerVariable("payload", "dyn")
    .registerVariable("key", "dyn")
    .registerVariable("time", "google.protobuf.Timestamp")
    .registerVariable("headers", "map<string, string>")
    .registerVariable("stream", "string")
    .registerVariable("seq", "int");
  for (const [sign, operation] of Object.entries(arithmetic)) {
    const mixed = (left: number | bigint, right: number | bigint): number =>
      operation(Number(left), Number(right));
    built.registerOperator(`double ${sign} int: double`, mixed);
    built.registerOperator(`int ${sign} double: double`, mixed);
  }
  return built.registerOperator("double % double: double", (left: number, right: number) => {
    return left % right;
  });
}

/**
 * CEL expressions over an event, as filter and map use them. The door of the CEL package.
 *
 * Variables: `payload` (as the stream's format says), `key` (text or null), `time` (a CEL timestamp, so that
 * `time.getHours()` and `time - duration("1h")` work), `headers`, `stream`, `seq` (an int).
 *
 * JSON knows one kind of number, CEL two that do not mix. What comes out of JSON is a CEL double here, and
 * arithmetic between int and double gives double, so that `payload.temperature * 2 > 40` means what it says.
 * Division of two literal ints stays whole, as in CEL.
 *
 * Beside CEL's own functions: `merge(map, map)`, whose second map wins, and `round(number, digits)`.
 *
 * An expression that meets what it cannot judge (a field that is missing, a text where it compares numbers) fails
 * that event. `has(payload.temperature) && …` is how one says that the field may be missing.
 */
import { Environment, type ParseResult } from "@marcbachmann/cel-js";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { Event } from "./processor.ts";

export interface Expression {
  readonly text: string;
  /** @throws HoldfastError HANDLER_FAILED where the event lacks what the expression asks for */
  evaluate(event: Event): unknown;
}

/** @throws HoldfastError CONFIG_INVALID when it does not compile, or gives no `wanted` */
export function compileExpression(text: string, what: string, wanted?: "bool"): Expression {
  const evaluate = parse(text, wanted);
  return {
    text,
    evaluate(event) {
      try {
        return evaluate({
          payload: event.payload,
          key: event.key,
          time: new Date(event.time),
          headers: event.headers,
          stream: event.stream,
          seq: BigInt(event.seq),
        });
      } catch (cause) {
        const why = `${what} ${quoted(text)} failed: ${summaryOf(cause)}`;
        throw new HoldfastError("HANDLER_FAILED", why, { cause });
      }
    },
  };
}

/** What is wrong with an expression, in one sentence; null when it compiles. */
export function expressionProblem(expression: string, wanted?: "bool"): string | null {
  try {
    parse(expression, wanted);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function parse(expression: string, wanted: "bool" | undefined): ParseResult {
  let parsed: ParseResult;
  try {
    parsed = environment().parse(expression);
  } catch (cause) {
    throw invalid(expression, cause);
  }
  const checked = parsed.check();
  if (!checked.valid) throw invalid(expression, checked.error);
  if (wanted === "bool" && checked.type !== "bool" && checked.type !== "dyn") {
    throw invalid(
      expression,
      new Error(`it gives ${checked.type ?? "nothing"}, not true or false`),
    );
  }
  return parsed;
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
export function quoted(expression: string): string {
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
  return built
    .registerOperator("double % double: double", (left: number, right: number) => left % right)
    .registerFunction("merge(map, map): map", (first: object, second: object) => ({
      ...first,
      ...second,
    }))
    .registerFunction("round(double, int): double", rounded)
    .registerFunction("round(int, int): double", rounded);
}

/** To so many digits behind the point; halves away from zero, as people round. */
export function rounded(value: number | bigint, digits: number | bigint): number {
  const factor = 10 ** Number(digits);
  const scaled = Number(value) * factor;
  // What is one part in 2^52 short of a half was a half before the multiplication.
  const half = Math.round(Math.abs(scaled) * (1 + Number.EPSILON));
  return (Math.sign(scaled) * half) / factor;
}

/**
 * The step `map`: builds a new payload of CEL expressions (cel.ts), one for each field, or one for the whole. What an
 * expression gives becomes JSON: whole numbers, timestamps as ISO 8601, durations in ms, bytes as base64. A number
 * that JSON does not have (NaN, infinite) fails the event.
 */
import { HoldfastError } from "../core/errors.ts";
import { either, mapOf, text } from "../core/field.ts";
import { isMap } from "../core/path.ts";
import { compileExpression, expressionProblem, quoted, type Expression } from "./cel.ts";
import type { Step } from "./processor.ts";

const expression = text({
  doc: "A CEL expression",
  example: "payload.temperature * 1.8 + 32",
  allowed: "a CEL expression",
  problem: expressionProblem,
});

export const mapOptions = either(
  expression,
  mapOf(expression, { doc: "Each field of the new payload", names: /^.{1,256}$/s }),
  (value) => typeof value === "string",
  {
    doc: "The new payload: a CEL expression for each field, or one that gives the whole, such as merge(payload, {…})",
    example: { device: "payload.device", fahrenheit: "payload.temperature * 1.8 + 32" },
  },
);

/** @throws HoldfastError CONFIG_INVALID when an expression does not compile */
export function mapStep(options: string | Readonly<Record<string, string>>): Step {
  if (typeof options === "string") {
    const whole = compileExpression(options, "Map");
    return { process: (event) => [{ ...event, payload: jsonOf(whole.evaluate(event), whole) }] };
  }
  const fields = Object.entries(options).map(
    ([name, each]) => [name, compileExpression(each, "Map")] as const,
  );
  return {
    process(event) {
      const payload = fields.map(([name, each]) => [name, jsonOf(each.evaluate(event), each)]);
      return [{ ...event, payload: Object.fromEntries(payload) as unknown }];
    },
  };
}

function jsonOf(value: unknown, from: Expression): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "number" && !Number.isFinite(value)) throw failed(from, `it gave ${value}`);
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map((each) => jsonOf(each, from));
  if (value instanceof Map) return jsonOf(Object.fromEntries(value), from);
  if (isDuration(value)) return Number(value.seconds) * 1000 + value.nanos / 1e6;
  if (!isMap(value) || ![Object.prototype, null].includes(Object.getPrototypeOf(value) as null))
    throw failed(from, "it gave what JSON does not have");
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, jsonOf(member, from)]),
  );
}

function isDuration(value: object): value is { seconds: bigint; nanos: number } {
  return value.constructor?.name === "Duration" && "seconds" in value && "nanos" in value;
}

function failed({ text: expression }: Expression, why: string): HoldfastError {
  return new HoldfastError("HANDLER_FAILED", `Map ${quoted(expression)} failed: ${why}`);
}

/**
 * The step `filter`: lets an event pass while a CEL expression (cel.ts) says true. One that gives anything but true or
 * false fails that event: neither passing nor dropping it would be right.
 */
import { HoldfastError } from "../core/errors.ts";
import { text } from "../core/field.ts";
import { compileExpression, expressionProblem, quoted } from "./cel.ts";
import type { Step } from "./processor.ts";

export const filterOptions = text({
  doc: "Lets an event pass while this CEL expression over payload, key, time, headers, stream and seq is true",
  example: "has(payload.temperature) && payload.temperature > 20",
  allowed: "a CEL expression that gives true or false",
  problem: (expression) => expressionProblem(expression, "bool"),
});

/** @throws HoldfastError CONFIG_INVALID when the expression does not compile */
export function filterStep(expression: string): Step {
  const compiled = compileExpression(expression, "Filter", "bool");
  return {
    process(event) {
      const result = compiled.evaluate(event);
      if (typeof result === "boolean") return result ? [event] : [];
      const why = `Filter ${quoted(expression)} failed: it gave ${typeof result}, not true or false`;
      throw new HoldfastError("HANDLER_FAILED", why);
    },
  };
}

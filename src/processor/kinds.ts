/** The kinds of step. Adding one: its file, a line here, a line in the tests' table, the regenerated reference. */
import { byKey, type AnyField, type Infer } from "../core/field.ts";
import { filterOptions, filterStep } from "./filter.ts";
import type { Step } from "./processor.ts";

interface StepKind<F extends AnyField> {
  readonly options: F;
  readonly create: (options: Infer<F>) => Step;
}

const kind = <F extends AnyField>(
  options: F,
  create: (options: Infer<F>) => Step,
): StepKind<F> => ({ options, create });

export const stepKinds = {
  filter: kind(filterOptions, filterStep),
} as const;

export const stepOptions = byKey(
  { filter: stepKinds.filter.options },
  {
    doc: "One step: a map with the step's name and what it needs",
    example: { filter: "has(payload.temperature)" },
  },
);
export type StepSettings = Infer<typeof stepOptions>;

/** The step that an entry of `steps` describes. */
export function createStep(settings: StepSettings): Step {
  return stepKinds.filter.create(settings.filter);
}

/** The kinds of step. Adding one: its file, a line here, a line in the tests' table, the regenerated reference. */
import { byKey } from "../core/field-by-key.ts";
import type { AnyField, Infer } from "../core/field.ts";
import { alertOptions, alertStep } from "./alert.ts";
import { deadbandOptions, deadbandStep } from "./deadband.ts";
import { dedupeOptions, dedupeStep } from "./dedupe.ts";
import { enrichOptions, enrichStep } from "./enrich.ts";
import { filterOptions, filterStep } from "./filter.ts";
import { flattenOptions, flattenStep } from "./flatten.ts";
import { joinOptions, joinStep } from "./join.ts";
import { mapOptions, mapStep } from "./map.ts";
import type { Step, StepTools } from "./processor.ts";
import { renameOptions, renameStep } from "./rename.ts";
import { sampleOptions, sampleStep } from "./sample.ts";
import { scaleOptions, scaleStep } from "./scale.ts";
import { selectOptions, selectStep } from "./select.ts";
import { splitOptions, splitStep } from "./split.ts";
import { throttleOptions, throttleStep } from "./throttle.ts";
import { windowStep } from "./window.ts";
import { windowOptions } from "./window-options.ts";

interface StepKind<F extends AnyField> extends StepTraits {
  readonly options: F;
  readonly create: (options: Infer<F>, tools: StepTools) => Step;
}

interface StepTraits {
  /** It goes by the time of events, which an unset clock may have given. */
  readonly needsTime?: true;
  /** What it gives is made of many events (Passed.isGathered). */
  readonly isGathering?: true;
}

const kind = <F extends AnyField>(
  options: F,
  create: (options: Infer<F>, tools: StepTools) => Step,
  traits: StepTraits = {},
): StepKind<F> => ({ options, create, ...traits });

const timed: StepTraits = { needsTime: true };

const stepKinds = {
  filter: kind(filterOptions, filterStep),
  map: kind(mapOptions, mapStep),
  select: kind(selectOptions, selectStep),
  rename: kind(renameOptions, renameStep),
  scale: kind(scaleOptions, scaleStep),
  deadband: kind(deadbandOptions, deadbandStep, timed),
  throttle: kind(throttleOptions, throttleStep, timed),
  sample: kind(sampleOptions, sampleStep),
  dedupe: kind(dedupeOptions, dedupeStep, timed),
  enrich: kind(enrichOptions, enrichStep),
  split: kind(splitOptions, splitStep),
  flatten: kind(flattenOptions, flattenStep),
  alert: kind(alertOptions, alertStep, timed),
  join: kind(joinOptions, joinStep, timed),
  window: kind(windowOptions, windowStep, { needsTime: true, isGathering: true }),
} as const;
type StepName = keyof typeof stepKinds;
type OptionsOf = { readonly [N in StepName]: (typeof stepKinds)[N]["options"] };

export const stepOptions = byKey(
  Object.fromEntries(
    Object.entries(stepKinds).map(([name, { options }]) => [name, options]),
  ) as unknown as OptionsOf,
  {
    doc: "One step: a map with the step's name and what it needs",
    example: { filter: "has(payload.temperature)" },
  },
);
export type StepSettings = Infer<typeof stepOptions>;

/** The step that an entry of `steps` describes. */
export function createStep(settings: StepSettings, tools: StepTools): Step {
  const name = nameOf(settings);
  const options = (settings as Readonly<Record<string, unknown>>)[name];
  return stepKinds[name].create(options as never, tools);
}

export function nameOf(settings: StepSettings): StepName {
  return Object.keys(settings)[0] as StepName;
}

export function needsTime(settings: StepSettings): boolean {
  return kindOf(settings).needsTime === true;
}

export function isGathering(settings: StepSettings): boolean {
  return kindOf(settings).isGathering === true;
}

function kindOf(settings: StepSettings): StepTraits {
  return stepKinds[nameOf(settings)];
}

/** All that is wrong with a configuration's value: by the declaration, and by how its parts fit each other. */
import { validate } from "superstruct";
import { checkBrokers } from "./addresses.ts";
import { configOptions, type Config } from "./config.ts";
import { checkConsistency } from "./consistency.ts";
import { explain, findingsMax, type Finding, type Path } from "./finding.ts";

export interface Judgement {
  /** Only where the declaration finds nothing wrong. */
  readonly config: Config | undefined;
  readonly findings: readonly Finding[];
}

/** `isHidden`: what stands there came out of the environment, and may be a secret wherever it stands. */
export function judge(value: unknown, isHidden: (path: Path) => boolean): Judgement {
  const [error, config] = validate(value, configOptions.struct, { coerce: true });
  const failures = (error?.failures() ?? [])
    .slice(0, findingsMax + 1)
    .map(({ path, type, refinement, message }) => ({
      path: path as Path,
      isUnknownKey: type === "never",
      ...(refinement === "problem" && { reason: message }),
    }));
  const declared = explain(configOptions, value, failures, isHidden);
  const between = checkConsistency(value).filter(({ path }) => !isTold(path, declared));
  return {
    config,
    findings: [
      ...declared,
      ...masked(between, isHidden),
      ...(config === undefined ? [] : checkBrokers(config)),
    ],
  };
}

/** Whether that place, or one that it is a part of, has been found wrong already: one mistake, one problem. */
export function isTold(path: Path, findings: readonly Finding[]): boolean {
  return findings.some((told) => told.path.every((key, index) => key === path[index]));
}

/** What came out of the environment is not shown. */
export function masked(
  findings: readonly Finding[],
  isHidden: (path: Path) => boolean,
): readonly Finding[] {
  return findings.map((finding) => {
    if (!isHidden(finding.path)) return finding;
    const { nearest: _, ...rest } = finding;
    return { ...rest, found: "found text out of the environment" };
  });
}

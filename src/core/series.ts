/**
 * A time series' name as Prometheus writes it: `name{label="value",…}`. Samples are kept under it in the stream of
 * metrics: one JSON object a round, readable by whoever looks at it.
 */

/** Where the agent keeps samples of its own metrics, if a sink asks for them. */
export const metricsStream = "_metrics";

export type Label = readonly [name: string, value: string];

export function formatSeries(
  name: string,
  labels: Readonly<Record<string, string | number>>,
): string {
  const pairs = Object.entries(labels).map(
    ([label, value]) => `${label}="${String(value).replaceAll(/["\\\n]/g, escape)}"`,
  );
  return pairs.length === 0 ? name : `${name}{${pairs.join(",")}}`;
}

const namePattern = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?$/s;
const labelPattern = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$)/gsy;

/** Its labels, `__name__` first; null: it is no series' name. */
export function parseSeries(text: string): readonly Label[] | null {
  const match = namePattern.exec(text);
  if (match === null) return null;
  const [, name = "", inside = ""] = match;
  const labels: Label[] = [["__name__", name]];
  let end = 0;
  labelPattern.lastIndex = 0;
  for (let pair = labelPattern.exec(inside); pair !== null; pair = labelPattern.exec(inside)) {
    const [whole, label = "", value = ""] = pair;
    labels.push([label, value.replaceAll(/\\(["\\n])/g, unescape)]);
    end += whole.length;
    if (end === inside.length) break;
  }
  return end === inside.length ? labels : null;
}

function escape(character: string): string {
  return character === "\n" ? String.raw`\n` : `\\${character}`;
}

function unescape(_whole: string, character: string): string {
  return character === "n" ? "\n" : character;
}

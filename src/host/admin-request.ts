/** What routes of the admin API read out of a request. */
import type { AdminView } from "./admin-routes.ts";
import { Problem } from "./answer.ts";

/** @throws Problem when there is no such stream */
export function knownStream({ journal, formats }: AdminView, name: string): string {
  const { streams } = journal.status();
  if (formats.has(name) || streams.has(name)) return name;
  const names = [...new Set([...formats.keys(), ...streams.keys()])].sort();
  throw new Problem(404, `There is no stream ${name}; there is ${names.join(", ") || "none yet"}`);
}

export function wholeNumber(
  query: URLSearchParams,
  name: string,
  standard: number,
  least: number,
): number {
  const text = query.get(name);
  if (text === null) return standard;
  const value = Number(text);
  if (/^-?\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  throw new Problem(
    400,
    `${name} is a whole number${least > 0 ? `, at least ${least}` : ""}: found ${text}`,
  );
}

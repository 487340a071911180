/** What parseArgs leaves to say about wrong usage. */

/** Ends a command with exit code 2: the caller is to read the usage. */
export class UsageError extends Error {}

export function oneName(positionals: readonly string[], what: string): string {
  const [name, ...more] = positionals;
  if (name === undefined) throw new UsageError(`${what} is missing`);
  if (more.length > 0)
    throw new UsageError(`Only one ${what} is possible: found ${positionals.join(" ")}`);
  return name;
}

export function wholeNumber(option: string, text: string, least = Number.MIN_SAFE_INTEGER): number {
  const value = Number(text);
  if (/^-?\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  throw new UsageError(`${option} takes a whole number: found ${text}`);
}

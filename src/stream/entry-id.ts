/**
 * IDs of stream entries: `ms-n`, two unsigned 64-bit numbers. As text `9-10` sorts before `9-2`: whoever compares them
 * so loses what a burst brings, so they are compared here and nowhere else.
 */

const largest = (1n << 64n) - 1n;

/** Negative: `a` is before `b`. */
export function compareIds(a: string, b: string): number {
  const [aMs, aN] = parts(a);
  const [bMs, bN] = parts(b);
  // Both are below 2 ** 53 in any stream whose IDs the server gives; the exact way is for the others.
  if (![aMs, bMs, aN, bN].every(Number.isSafeInteger)) return compareExactly(a, b);
  return aMs === bMs ? aN - bN : aMs - bMs;
}

/** The ID right before `id`: a group that is set to it reads `id` next. `0-0` has none and is given back. */
export function idBefore(id: string): string {
  const [ms, n] = exactParts(id);
  if (n > 0n) return `${ms}-${n - 1n}`;
  return ms > 0n ? `${ms - 1n}-${largest}` : "0-0";
}

/** ms since 1970 of the entry's ID, by its server's clock. */
export function idMs(id: string): number {
  return parts(id)[0];
}

function parts(id: string): [number, number] {
  const dash = id.indexOf("-");
  return dash < 0 ? [Number(id), 0] : [Number(id.slice(0, dash)), Number(id.slice(dash + 1))];
}

function exactParts(id: string): [bigint, bigint] {
  const [ms = "0", n = "0"] = id.split("-");
  return [BigInt(ms), BigInt(n)];
}

function compareExactly(a: string, b: string): number {
  const [aMs, aN] = exactParts(a);
  const [bMs, bN] = exactParts(b);
  if (aMs !== bMs) return aMs < bMs ? -1 : 1;
  return aN === bN ? 0 : aN < bN ? -1 : 1;
}

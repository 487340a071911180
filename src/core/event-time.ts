/** The time that an event itself tells. */

/** Seconds reach this in the year 5138; as ms it is March 1973. */
const secondsBelow = 1e11;
/** ECMA-262, 21.4.1.1: the range of a time value, ms. */
const timeMax = 8.64e15;
/** ISO 8601: a date, and if there is a time then with or without a zone (none means UTC). */
const isoTime =
  /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

/** ms since 1970-01-01 UTC of a number of s or ms, or of ISO 8601 text; null: it is none of these. */
export function readTime(value: unknown): number | null {
  if (typeof value === "number") {
    if (!Number.isFinite(value) || Math.abs(value) > timeMax) return null;
    return Math.abs(value) < secondsBelow ? Math.round(value * 1000) : Math.round(value);
  }
  if (typeof value !== "string") return null;
  const match = isoTime.exec(value);
  if (match === null) return null;
  const zone = match[1];
  const bare = (zone === undefined ? value : value.slice(0, -zone.length)).trim();
  const date = bare.replace(" ", "T").replace(",", ".");
  const hours = zone?.replace(
    /^([+-]\d\d)(\d\d)?$/,
    (_, hour, minute) => `${hour}:${minute ?? "00"}`,
  );
  const ms = Date.parse(date.length === 10 ? date : `${date}${(hours ?? "Z").toUpperCase()}`);
  return Number.isNaN(ms) ? null : ms;
}

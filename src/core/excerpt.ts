/** Long enough to recognise a value, short enough for a line. */
const lengthMax = 60;

/** A payload's value as a message tells it. */
export function excerptOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text;
}

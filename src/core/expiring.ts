/**
 * A value that has an end lies in the journal behind that end: a byte 1, with which no JSON begins, and eight of ms since
 * 1970, the highest first, so that SQLite can compare them as they lie.
 */

const mark = 1;
const headBytes = 9;

export function withEnd(value: Uint8Array, endsAtMs: number): Uint8Array {
  const head = Buffer.alloc(headBytes);
  head[0] = mark;
  head.writeBigInt64BE(BigInt(Math.ceil(endsAtMs)), 1);
  return Buffer.concat([head, value]);
}

/** The value and its end; null: it has none. */
export function endOf(bytes: Uint8Array): {
  readonly value: Uint8Array;
  readonly endsAt: number | null;
} {
  if (bytes[0] !== mark) return { value: bytes, endsAt: null };
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, headBytes);
  return { value: bytes.subarray(headBytes), endsAt: Number(head.readBigInt64BE(1)) };
}

/** The value; null: there is none, or it has had its time. */
export function unended(bytes: Uint8Array | null, nowMs: number): Uint8Array | null {
  if (bytes === null) return null;
  const { value, endsAt } = endOf(bytes);
  return endsAt !== null && endsAt <= nowMs ? null : value;
}

/** Values that end before `nowMs` are below this, as they lie. */
export function endedBelow(nowMs: number): Uint8Array {
  return withEnd(new Uint8Array(), nowMs + 1);
}

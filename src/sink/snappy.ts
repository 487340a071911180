/**
 * Snappy's block format (google/snappy, format_description.txt), as remote write asks for it: the length as a varint,
 * then literals and copies. Compresses in one pass with a table of where four bytes were last seen.
 */

/** A copy's offset has 16 bits: what is further back cannot be named, so each block begins anew. */
const blockBytes = 65_536;
const hashBits = 14;
const matchMin = 4;
/** A copy element of the two-byte kind carries 1 to 64 bytes. */
const copyMax = 64;

export function snappy(input: Uint8Array): Buffer {
  // The worst case of the reference implementation: 32 + n + n / 6.
  const output = Buffer.allocUnsafe(32 + input.length + Math.ceil(input.length / 6));
  let end = writeVarint(output, 0, input.length);
  const table = new Uint16Array(1 << hashBits);
  for (let start = 0; start < input.length; start += blockBytes) {
    table.fill(0);
    end = compressBlock(input.subarray(start, start + blockBytes), table, output, end);
  }
  return output.subarray(0, end);
}

function compressBlock(
  block: Uint8Array,
  table: Uint16Array,
  output: Buffer,
  begin: number,
): number {
  let end = begin;
  /** Up to here it is written. */
  let written = 0;
  const view = Buffer.from(block.buffer, block.byteOffset, block.length);
  // Position 0 stands for "never seen", so that the table needs no other mark.
  for (let at = 1; at + matchMin <= view.length;) {
    const four = view.readUInt32LE(at);
    const slot = Math.imul(four, 0x1e35_a7bd) >>> (32 - hashBits);
    const found = table[slot] ?? 0;
    table[slot] = at;
    if (found === 0 || view.readUInt32LE(found) !== four) {
      at++;
      continue;
    }
    let length = matchMin;
    while (at + length < view.length && view[found + length] === view[at + length]) length++;
    end = writeLiteral(view, written, at, output, end);
    end = writeCopy(at - found, length, output, end);
    at += length;
    written = at;
  }
  return writeLiteral(view, written, view.length, output, end);
}

/** Tag 00: up to 60 bytes the length stands in the tag, beyond that in one or two bytes behind it. */
function writeLiteral(
  from: Buffer,
  start: number,
  stop: number,
  output: Buffer,
  begin: number,
): number {
  const length = stop - start;
  if (length === 0) return begin;
  let end = begin;
  if (length <= 60) output[end++] = (length - 1) << 2;
  else if (length <= 256) {
    output[end++] = 60 << 2;
    output[end++] = length - 1;
  } else {
    output[end++] = 61 << 2;
    end = output.writeUInt16LE(length - 1, end);
  }
  return end + from.copy(output, end, start, stop);
}

/** Tag 10: six bits of length, two bytes of offset. */
function writeCopy(offset: number, length: number, output: Buffer, begin: number): number {
  let end = begin;
  for (let left = length; left > 0; left -= copyMax) {
    output[end++] = ((Math.min(left, copyMax) - 1) << 2) | 2;
    end = output.writeUInt16LE(offset, end);
  }
  return end;
}

function writeVarint(output: Buffer, begin: number, value: number): number {
  let end = begin;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) output[end++] = (rest % 0x80) | 0x80;
  output[end++] = rest;
  return end;
}

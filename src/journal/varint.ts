/** LEB128 varints, of whole numbers from 0 to 2^53 - 1: seven bits a byte, the lowest first, the highest bit says "more". */

/** Seven bits a byte: 2^53 - 1 takes 8. */
export const varintBytesMax = 8;

/** Gives back where the next byte goes. */
export function putVarint(into: Uint8Array, from: number, value: number): number {
  let [at, rest] = [from, value];
  while (rest > 127) {
    into[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  into[at++] = rest;
  return at;
}

/** Bytes, and how far they are read. Behind the end are zeros: what reads checks lengths where it must. */
export class ByteReader {
  readonly bytes: Buffer;
  at = 0;

  constructor({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>) {
    this.bytes = Buffer.from(buffer, byteOffset, length);
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.bytes[this.at++] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }
}

/** As much of protobuf's wire format as remote write needs to be written: varints, doubles and what has a length. */

/** Grows by doubling; what it gave before stays good. */
export class ProtobufWriter {
  #bytes = Buffer.allocUnsafe(1024);
  #end = 0;

  text(field: number, value: string): void {
    this.#tag(field, 2);
    const length = Buffer.byteLength(value);
    this.#varint(BigInt(length));
    this.#room(length);
    this.#end += this.#bytes.write(value, this.#end, "utf8");
  }

  bytes(field: number, value: Uint8Array): void {
    this.#tag(field, 2);
    this.#varint(BigInt(value.length));
    this.#room(value.length);
    this.#bytes.set(value, this.#end);
    this.#end += value.length;
  }

  double(field: number, value: number): void {
    this.#tag(field, 1);
    this.#room(8);
    this.#end = this.#bytes.writeDoubleLE(value, this.#end);
  }

  /** Negative ones are ten bytes long, as int64 is. */
  int64(field: number, value: number): void {
    this.#tag(field, 0);
    this.#varint(BigInt.asUintN(64, BigInt(value)));
  }

  /** `repeated uint32`, packed. */
  packed(field: number, values: readonly number[]): void {
    const inner = new ProtobufWriter();
    for (const value of values) inner.#varint(BigInt(value));
    this.bytes(field, inner.take());
  }

  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#end);
    this.#bytes = this.#bytes.subarray(this.#end);
    this.#end = 0;
    return taken;
  }

  #tag(field: number, wireType: 0 | 1 | 2): void {
    this.#varint(BigInt((field << 3) | wireType));
  }

  #varint(value: bigint): void {
    this.#room(10);
    let rest = value;
    // Numbers where they are exact: lengths and tags always are.
    if (rest <= 0x1f_ffff_ffff_ffffn) {
      let small = Number(rest);
      for (; small >= 0x80; small = Math.floor(small / 0x80)) {
        this.#bytes[this.#end++] = (small % 0x80) | 0x80;
      }
      this.#bytes[this.#end++] = small;
      return;
    }
    for (; rest >= 0x80n; rest >>= 7n) this.#bytes[this.#end++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#end++] = Number(rest);
  }

  #room(bytes: number): void {
    if (this.#end + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(1024, (this.#end + bytes) * 2));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }
}

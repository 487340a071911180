/**
 * Entries as one argument of a script, in MessagePack, which the server's Lua reads by itself (`cmsgpack`): an array of
 * seq, fields, seq, fields … A client that writes each field as an argument of its own takes 12 µs more for an event
 * (measured).
 *
 * Bounds: a text has 32 bits of length, entries 32 bits of count; a slice has far less (valkey.ts).
 */
const arrayHead = 0xdd;
const text16 = 0xda;
const text32 = 0xdb;
/** Of `text32` and its length. */
const headMax = 5;

export class Pack {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #end = headMax;
  #entries = 0;

  get bytes(): number {
    return this.#end;
  }

  get entries(): number {
    return this.#entries;
  }

  add(seq: number, fields: readonly (string | Uint8Array)[]): void {
    this.#entries += 1;
    this.#put(String(seq));
    this.#room(headMax);
    this.#buffer[this.#end] = arrayHead;
    this.#end = this.#buffer.writeUInt32BE(fields.length, this.#end + 1);
    for (const field of fields) this.#put(field);
  }

  /** What was added, and begins anew. The bytes are the caller's. */
  take(): Buffer {
    this.#buffer[0] = arrayHead;
    this.#buffer.writeUInt32BE(this.#entries * 2, 1);
    const packed = Buffer.from(this.#buffer.subarray(0, this.#end));
    [this.#end, this.#entries] = [headMax, 0];
    return packed;
  }

  #put(field: string | Uint8Array): void {
    // Three bytes of UTF-8 for each UTF-16 unit at the most.
    this.#room(headMax + field.length * (typeof field === "string" ? 3 : 1));
    const isShort = field.length <= 0xffff / 3;
    const start = this.#end + (isShort ? 3 : headMax);
    let length = field.length;
    if (typeof field === "string") length = this.#buffer.write(field, start, "utf8");
    else this.#buffer.set(field, start);
    this.#buffer[this.#end] = isShort ? text16 : text32;
    if (isShort) this.#buffer.writeUInt16BE(length, this.#end + 1);
    else this.#buffer.writeUInt32BE(length, this.#end + 1);
    this.#end = start + length;
  }

  #room(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#end + bytes));
    larger.set(this.#buffer.subarray(0, this.#end));
    this.#buffer = larger;
  }
}

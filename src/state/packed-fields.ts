/** The fields of an emitted event as one blob, as they lie in a store's outbox. */
import type { OutboxEvent } from "./state.ts";

/** Values one behind the other, each with its length before it. */
export function pack(fields: OutboxEvent["fields"]): Buffer {
  const parts: Buffer[] = [];
  for (const value of fields) {
    const bytes = typeof value === "string" ? Buffer.from(value) : Buffer.from(value);
    const length = Buffer.allocUnsafe(4);
    length.writeUInt32LE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

export function unpack(packed: Buffer): Uint8Array[] {
  const fields: Uint8Array[] = [];
  for (let at = 0; at < packed.length;) {
    const length = packed.readUInt32LE(at);
    fields.push(packed.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

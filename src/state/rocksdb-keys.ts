/** How what a store keeps is named in RocksDB, so that its order is the one that is read in (rocksdb.ts). */
import { blobOf } from "./positions.ts";

export function stateKey(space: string, key: string): Buffer {
  return Buffer.from(`s${JSON.stringify([space, key])}`);
}

export function scopeKey(scope: string): Buffer {
  return Buffer.from(`c${scope}`);
}

/** Length first: a scope is never the beginning of another one's. */
export function rangesKey(scope: string): Buffer {
  const name = Buffer.from(scope);
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(name.length);
  return Buffer.concat([Buffer.from("r"), length, name]);
}

export function endOfRanges(scope: string): Buffer {
  return Buffer.concat([rangesKey(scope), Buffer.alloc(17, 0xff)]);
}

export function rangeKey(scope: string, first: bigint): Buffer {
  return Buffer.concat([rangesKey(scope), blobOf(first)]);
}

export function rowKey(n: number): Buffer {
  return Buffer.concat([Buffer.from("o"), bigEndian(n)]);
}

export function expiryKey(endMs: number, at: Buffer): Buffer {
  return Buffer.concat([Buffer.from("x"), bigEndian(endMs), at]);
}

export function bigEndian(n: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(BigInt(Math.floor(n)));
  return bytes;
}

export function endOf(ms: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleLE(ms);
  return bytes;
}

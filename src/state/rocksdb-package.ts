/** The optional package rocksdb-native, whose door this is: what is used of it, since it comes without types. */
import { HoldfastError, messageOf } from "../core/errors.ts";

export type Bytes = Buffer | string;

export interface WriteBatch {
  tryPut(key: Bytes, value: Bytes): void;
  tryDelete(key: Bytes): void;
  /** `end` itself stays. */
  tryDeleteRange(start: Bytes, end: Bytes): void;
  flush(): Promise<void>;
}

export interface Range {
  readonly gt?: Bytes;
  readonly gte?: Bytes;
  readonly lt?: Bytes;
  readonly limit?: number;
}

export interface RocksDb {
  ready(): Promise<void>;
  close(): Promise<void>;
  get(key: Bytes): Promise<Buffer | null>;
  iterator(range: Range): AsyncIterable<{ readonly key: Buffer; readonly value: Buffer }>;
  write(options: { readonly autoDestroy: true }): WriteBatch;
  /** What is in memory goes into tables, synced. */
  flush(): Promise<void>;
  currentWalFile(): Promise<{ readonly path: string }>;
}

export interface RocksDbOptions {
  readonly writeBufferSize: number;
  readonly walRecoveryMode: number;
  readonly maxBackgroundJobs: number;
  readonly maxOpenFiles: number;
}

export type RocksDbConstructor = new (path: string, options: RocksDbOptions) => RocksDb;

/** @throws HoldfastError STATE_PACKAGE */
export async function loadRocksDb(): Promise<RocksDbConstructor> {
  try {
    // @ts-expect-error The package comes without types.
    const loaded = (await import("rocksdb-native")) as { default: RocksDbConstructor };
    return loaded.default;
  } catch (cause) {
    const isMissing = (cause as { code?: unknown }).code === "ERR_MODULE_NOT_FOUND";
    const why = isMissing
      ? "RocksDbStore needs a package of its own: npm install rocksdb-native@3.18.1"
      : `rocksdb-native cannot be loaded: ${messageOf(cause)}`;
    throw new HoldfastError("STATE_PACKAGE", why, { cause });
  }
}

/**
 * How a chunk lies on disk: what one commit adds to one stream (several after a burst: `intoChunks`), a blob that is
 * never rewritten. A section is what one part packed on the main thread (section.ts); a chunk holds the sections of
 * all parts that wrote into its stream in one turn, so merging is concatenation.
 *
 *   chunk   = header (48 bytes, little endian), body
 *   header  = magic u16 · version u8 · flags u8 · CRC32 u32 of all else · count u32 · epoch u32 · boot u32 ·
 *             raw body length u32 · first seq u64 · wall base f64 ms · monotone base f64 ms
 *   flags   = compression (2 bits: none, deflate, zstd) · encoding (2 bits: dense, sparse) · clock quality (2 bits)
 *   body    = sections, where sparse behind their events' seqs (sparse.ts); perhaps compressed as a whole
 *
 * Epoch and boot are ordinals of rows in their tables.
 */
import {
  constants,
  crc32,
  deflateRawSync,
  inflateRawSync,
  zstdCompressSync,
  zstdDecompressSync,
} from "node:zlib";
import type { ClockQuality } from "../core/event.ts";
import { chunkBytesMax, chunkEventsMax, countOf, sectionHeadBytes } from "./section.ts";
import { packSeqs, unpackSeqs } from "./sparse.ts";

const magic = 0x4648;
const version = 1;
export const headerBytes = 48;
/** Below this a deflate stream's own bytes eat the gain (measured with 90-byte JSON: one event never shrinks). */
const compressFromBytes = 160;
/**
 * From here zstd, below it deflate. zstd is smaller (90-byte JSON, 20 events: 494 bytes beside 584; 100: 1,635 beside
 * 2,240), but Node makes a decompressor for each call, which takes 11 µs (20 events: 13 µs beside 5). Below this either
 * leaves a row that fits one page of 1 KiB, so that deflate costs the card nothing (20 and 28 events a commit, both:
 * 9,600 bytes). A preset dictionary makes 10 events 0.26 instead of 0.30, which is the same page.
 */
const zstdFromBytes = 3_000;

const sparseFlag = 0b0100;
const compressions = ["none", "deflate", "zstd"] as const;
const qualities: readonly ClockQuality[] = ["unsynced", "synced", "provisional"];

/** What a chunk says of itself, beside its events. */
export interface ChunkHead {
  readonly first: number;
  readonly count: number;
  readonly epoch: number;
  readonly boot: number;
  readonly clock: ClockQuality;
  /** Of each event, where they do not follow each other; null: dense, from `first` on. */
  readonly seqs: readonly number[] | null;
}

export interface OpenedChunk {
  readonly head: ChunkHead;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** By what makes it smaller: level 1 of either; higher levels cost twice the time and more for 2 % of the bytes. */
function compressed(raw: Uint8Array): { body: Uint8Array; compression: number } {
  if (raw.length < compressFromBytes) return { body: raw, compression: 0 };
  const isLong = raw.length >= zstdFromBytes;
  const body = isLong
    ? zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
    : deflateRawSync(raw, { level: constants.Z_BEST_SPEED });
  const compression = compressions.indexOf(isLong ? "zstd" : "deflate");
  return body.length < raw.length ? { body, compression } : { body: raw, compression: 0 };
}

/** The chunk of one commit, ready for the disk. */
export function sealChunk(
  sections: readonly Uint8Array[],
  head: Omit<ChunkHead, "count" | "seqs"> & Partial<Pick<ChunkHead, "seqs">>,
): Buffer {
  const isSparse = head.seqs !== undefined && head.seqs !== null;
  const parts = isSparse ? [packSeqs(head.seqs), ...sections] : sections;
  const raw = parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts);
  const { body, compression } = compressed(raw);
  const first = Buffer.from(sections[0]?.buffer ?? raw.buffer, sections[0]?.byteOffset ?? 0);
  const chunk = Buffer.allocUnsafe(headerBytes + body.length);
  chunk.writeUInt16LE(magic, 0);
  chunk[2] = version;
  chunk[3] = compression | (isSparse ? sparseFlag : 0) | (qualities.indexOf(head.clock) << 4);
  chunk.writeUInt32LE(
    sections.reduce((sum, section) => sum + countOf(section), 0),
    8,
  );
  chunk.writeUInt32LE(head.epoch, 12);
  chunk.writeUInt32LE(head.boot, 16);
  chunk.writeUInt32LE(raw.length, 20);
  chunk.writeBigUInt64LE(BigInt(head.first), 24);
  first.copy(chunk, 32, 4, sectionHeadBytes);
  chunk.set(body, headerBytes);
  chunk.writeUInt32LE(checksum(chunk), 4);
  return chunk;
}

/** Of magic, version and flags, whatever the flags are. */
const startSums = Array.from({ length: 64 }, (_, flags) =>
  crc32(Uint8Array.of(magic & 255, magic >> 8, version, flags)),
);

/** Of everything but the checksum itself. */
function checksum(chunk: Buffer): number {
  return crc32(chunk.subarray(8), startSums[chunk[3] ?? 0]);
}

/** The sections of one stream and turn, in order, as the chunks that they become. */
export function intoChunks(sections: readonly Uint8Array[]): Uint8Array[][] {
  const chunks: Uint8Array[][] = [];
  let [count, bytes] = [0, 0];
  for (const section of sections) {
    const open = chunks.at(-1);
    count += countOf(section);
    bytes += section.length;
    if (open !== undefined && count <= chunkEventsMax && bytes <= chunkBytesMax) {
      open.push(section);
      continue;
    }
    chunks.push([section]);
    [count, bytes] = [countOf(section), section.length];
  }
  return chunks;
}

/** A chunk that is whole, its body as it was stored. */
export interface PackedChunk extends Omit<ChunkHead, "seqs"> {
  readonly isSparse: boolean;
  readonly compression: (typeof compressions)[number];
  /** Of the body when it is unpacked. */
  readonly rawBytes: number;
  readonly stored: Uint8Array;
}

/** Null where the bytes are not a whole chunk as it was written. */
export function checkChunk(chunk: Buffer): PackedChunk | null {
  if (chunk.length < headerBytes || chunk.readUInt16LE(0) !== magic || chunk[2] !== version)
    return null;
  const flags = chunk[3] ?? 0;
  const compression = compressions[flags & 3];
  const clock = qualities[(flags >> 4) & 3];
  if (compression === undefined || clock === undefined || (flags & 0b1100_1000) !== 0) return null;
  if (checksum(chunk) !== chunk.readUInt32LE(4)) return null;
  return {
    first: chunk.readUInt32LE(24) + chunk.readUInt32LE(28) * 2 ** 32,
    count: chunk.readUInt32LE(8),
    epoch: chunk.readUInt32LE(12),
    boot: chunk.readUInt32LE(16),
    clock,
    isSparse: (flags & sparseFlag) !== 0,
    compression,
    rawBytes: chunk.readUInt32LE(20),
    stored: chunk.subarray(headerBytes),
  };
}

/**
 * Puts the plain body into `into`, from `at` on.
 * @throws Error when it does not unpack
 */
export function unpackChunk(chunk: PackedChunk, into: Uint8Array, at: number): void {
  const { compression, stored, rawBytes } = chunk;
  const limit = { maxOutputLength: Math.max(1, rawBytes) };
  if (compression === "none") into.set(stored, at);
  else
    into.set((compression === "deflate" ? inflateRawSync : zstdDecompressSync)(stored, limit), at);
}

/** The head and the plain body, or null where the bytes are not a whole chunk as it was written. */
export function openChunk(chunk: Buffer): OpenedChunk | null {
  try {
    return unsealed(chunk);
  } catch {
    // A body that its own header fits and that does not unpack.
    return null;
  }
}

function unsealed(chunk: Buffer): OpenedChunk | null {
  const packed = checkChunk(chunk);
  if (packed === null) return null;
  const { first, count, epoch, boot, clock } = packed;
  // The body goes to the other thread: it needs an ArrayBuffer that is its own.
  const body = new Uint8Array(packed.rawBytes);
  unpackChunk(packed, body, 0);
  const head = { first, count, epoch, boot, clock };
  if (!packed.isSparse) return { head: { ...head, seqs: null }, body };
  const { seqs, bytes } = unpackSeqs(body, first, count);
  return { head: { ...head, seqs }, body: body.slice(bytes) };
}

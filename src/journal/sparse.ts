/**
 * Which seq the events of a sparse chunk have: what thinning left (thinning.ts) keeps its seq, so they do not follow
 * each other any more.
 *
 *   sparse body = for each event but the first: its seq less the one before, less 1, as a varint (varint.ts); then sections
 *
 * The first seq and the count stand in the chunk's header.
 */
import { ByteReader, putVarint, varintBytesMax } from "./varint.ts";

/** The distances, to stand in front of the sections. */
export function packSeqs(seqs: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(seqs.length * varintBytesMax);
  let at = 0;
  for (let index = 1; index < seqs.length; index++)
    at = putVarint(bytes, at, (seqs[index] ?? 0) - (seqs[index - 1] ?? 0) - 1);
  return bytes.slice(0, at);
}

/** The seqs, and how many bytes of the body they took. */
export function unpackSeqs(
  body: Uint8Array<ArrayBuffer>,
  first: number,
  count: number,
): { seqs: number[]; bytes: number } {
  const reader = new ByteReader(body);
  const seqs = [first];
  for (let seq = first; seqs.length < count; seqs.push(seq)) seq += reader.varint() + 1;
  return { seqs, bytes: reader.at };
}

/** Index of the first seq after `after`. */
export function indexAfter(seqs: readonly { readonly seq: number }[], after: number): number {
  let [low, high] = [0, seqs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((seqs[middle]?.seq ?? 0) > after) high = middle;
    else low = middle + 1;
  }
  return low;
}

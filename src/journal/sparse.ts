/**
 * Which seq the events of a sparse chunk have: what thinning left (thinning.ts) keeps its seq, so they do not follow
 * each other any more.
 *
 *   sparse body = for each event but the first: its seq less the one before, less 1, as a LEB128 varint; then sections
 *
 * The first seq and the count stand in the chunk's header.
 */

/** The distances, to stand in front of the sections. */
export function packSeqs(seqs: readonly number[]): Uint8Array {
  const bytes: number[] = [];
  for (let index = 1; index < seqs.length; index++) {
    let rest = (seqs[index] ?? 0) - (seqs[index - 1] ?? 0) - 1;
    for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
    bytes.push(rest);
  }
  return Uint8Array.from(bytes);
}

/** The seqs, and how many bytes of the body they took. */
export function unpackSeqs(
  body: Uint8Array,
  first: number,
  count: number,
): { seqs: number[]; bytes: number } {
  const seqs = [first];
  let at = 0;
  for (let seq = first; seqs.length < count; seqs.push(seq)) {
    let distance = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = body[at++] ?? 0;
      distance += (byte & 127) * scale;
      if (byte < 128) break;
    }
    seq += distance + 1;
  }
  return { seqs, bytes: at };
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

/** Which name was meant, when one is not known. */

/** The name with the fewest edits, if that is a slip and not another word. */
export function nearestName(wrong: string, names: readonly string[]): string | undefined {
  // No name is longer than 64 letters, so what is longer is no slip; it also bounds the work.
  if (wrong.length > 100) return undefined;
  let best: string | undefined;
  let bestEdits = Math.max(1, Math.floor(wrong.length / 3)) + 1;
  for (const name of names) {
    const edits = editsBetween(wrong.toLowerCase(), name.toLowerCase());
    if (edits >= bestEdits) continue;
    best = name;
    bestEdits = edits;
  }
  return best;
}

/** Levenshtein's distance with swaps of neighbours (Damerau): the slips of typing fingers cost one each. */
function editsBetween(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let edits = Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (isSwap) edits = Math.min(edits, (before[j - 2] ?? 0) + 1);
      next.push(edits);
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}

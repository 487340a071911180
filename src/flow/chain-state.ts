/** What a processor remembers, out of the journal: a handler's values one by one, its steps' all at once, in pages. */
import type { Journal, StateEntry } from "../journal/journal.ts";
import type { Chain } from "../processor/processor.ts";
import type { ListedStore } from "../state/state.ts";
import type { Patience } from "./patience.ts";

/** Rows in one answer of the journal: of 100 bytes each 100 KiB, and at the most 6 MiB (windows with percentiles). */
const pageRows = 1_000;

/** False: the end came first. */
export async function loadChain(
  chain: Chain,
  journal: Pick<Journal, "readStates">,
  patience: Patience,
): Promise<boolean> {
  chain.clear();
  for (const space of chain.spaces) {
    for (let after: string | null = null; ;) {
      const from: string | null = after;
      const page: readonly StateEntry[] | null = await patience.answer(() =>
        journal.readStates(space, from, pageRows),
      );
      if (page === null) return false;
      chain.load(space, page);
      after = page.at(-1)?.key ?? null;
      if (page.length < pageRows) break;
    }
  }
  chain.loaded();
  return true;
}

export function storeOf(journal: Pick<Journal, "readState" | "readStates">): ListedStore {
  return {
    get: (space, key) => journal.readState(space, key),
    list: (space, after, limit) => journal.readStates(space, after, limit),
  };
}

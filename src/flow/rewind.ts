/**
 * Sets a processor back in a stream while it runs: what it gave from there on is given again, as new events.
 *
 * It happens between two units of work (Processing.exclusively) and is one itself: the cursor goes back, the retry rows
 * of events that will be read again go, and with `reset` all that the processor remembers. With `keep` that stays:
 * what was counted is counted again, windows that closed take nothing more (their events are late), dedupe drops what it
 * knows. A crash leaves all of it or nothing.
 *
 * Bound: what the stream keeps; a place before that is moved up to it, and told.
 */
import { HoldfastError } from "../core/errors.ts";
import type { RewindOrder, RewindReport } from "../core/replay.ts";
import type { Journal } from "../journal/journal.ts";

/** Keys of state in one page. */
const pageKeys = 1_000;

export interface RewindParts {
  readonly journal: Journal;
  readonly group: string;
  /** Where it keeps what it remembers. */
  readonly spaces: readonly string[];
}

/** @throws HoldfastError REPLAY_REFUSED when that is not behind it, or nobody said what becomes of its state */
export async function rewind(parts: RewindParts, order: RewindOrder): Promise<RewindReport> {
  const { journal, group } = parts;
  const { stream } = order;
  const keys = await keysOf(parts);
  if (keys.length > 0 && order.state === null) {
    throw refused(
      `${group} remembers ${keys.length} keys: say whether it keeps them (what it counted is counted again) or resets them (it begins anew, also for its other streams)`,
    );
  }
  const cursor = journal.cursor(group, stream).seq;
  const { from, isShortened } = await placeOf(journal, order);
  if (from > cursor) throw refused(`${group} has not come to seq ${from} of ${stream} yet`);
  const rows = await journal.readRetries(group);
  const again = rows.filter(({ event }) => event.stream === stream && event.seq >= from);
  const state = order.state === "reset" ? keys.map((key) => ({ ...key, value: null })) : [];
  const outcome = await journal.commit(
    {
      group,
      cursors: [{ stream, from: cursor, to: from - 1 }],
      state,
      retries: { put: [], remove: again.map(({ event }) => ({ stream, seq: event.seq })) },
    },
    "soon",
  );
  if (outcome !== "committed") throw refused("Its cursor has moved meanwhile: ask again");
  return { from, cursor, isShortened, removedKeys: state.length };
}

/** The first event that is read again; `isShortened`: what was asked for before it is not kept any more. */
export async function placeOf(
  journal: Pick<Journal, "read" | "status">,
  { stream, from }: RewindOrder,
): Promise<{ readonly from: number; readonly isShortened: boolean }> {
  const { first = 1, head = 0 } = journal.status().streams.get(stream) ?? {};
  const wanted = "seq" in from ? from.seq : await seqAt(journal, stream, first, head, from.time);
  return { from: Math.max(wanted, first), isShortened: wanted < first };
}

export function refused(message: string): HoldfastError {
  return new HoldfastError("REPLAY_REFUSED", `Cannot replay: ${message}`);
}

async function keysOf({ journal, spaces }: RewindParts): Promise<{ space: string; key: string }[]> {
  const keys: { space: string; key: string }[] = [];
  for (const space of spaces) {
    for (let after: string | null = null, isMore = true; isMore;) {
      const from: string | null = after;
      const page = await journal.readStates(space, from, pageKeys);
      keys.push(...page.map(({ key }) => ({ space, key })));
      after = page.at(-1)?.key ?? null;
      isMore = page.length === pageKeys;
    }
  }
  return keys;
}

/** The first event received at that time or later, by halving: receipt goes with seq, but where a clock was set back. */
async function seqAt(
  journal: Pick<Journal, "read">,
  stream: string,
  first: number,
  head: number,
  time: number,
): Promise<number> {
  let [low, high] = [first, head + 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { events } = await journal.read(stream, middle - 1, 1, 1);
    const event = events[0];
    if (event !== undefined && event.receivedAt < time) low = event.seq + 1;
    else high = middle;
  }
  return low;
}

/**
 * What a far side says that it holds, beside what the journal has (invariant 6).
 *
 *   it holds what we cannot have sent, or another event at one of our seqs ──► forked: a new epoch begins
 *   it holds more than the cursor says (an answer was lost, the cursor was) ──► ahead: the cursor moves up
 *   it does not hold the cursor's own event (it was emptied, put back) ──► behind: the cursor moves back
 *   else ──► as it was
 *
 * A fork takes over from the first seq that the far side has not confirmed to us, under names that nobody else gives. What
 * of it the far side may have had under the old name is there twice then: nothing is lost, and both are told apart.
 *
 * Names of an older epoch that the far side holds beyond our last one are no fork: the card was moved or cloned, or lost its
 * end, and we shall give none of them again; what we have of them is what it has.
 *
 * Bound: two reads of one event for each range that it holds, about 40 more for each that moves the cursor.
 */
import { digestOf } from "../core/event-digest.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import type { Holding } from "../sink/sink.ts";

export type Verdict =
  | { readonly kind: "as-it-was" }
  | { readonly kind: "ahead"; readonly to: number }
  | { readonly kind: "behind"; readonly to: number; readonly lost: Lost | null }
  | {
      readonly kind: "forked";
      readonly from: number;
      readonly lost: Lost | null;
      readonly why: string;
    };

/** What it does not hold, and the journal has no more. */
export interface Lost {
  readonly from: number;
  readonly to: number;
}

interface Scene {
  readonly journal: Pick<Journal, "read">;
  /** The present one. */
  readonly epoch: string;
  readonly stream: string;
  readonly cursor: number;
  readonly first: number;
  readonly head: number;
  readonly held: readonly Holding[];
}

export async function compare(
  journal: Pick<Journal, "read" | "identity">,
  stream: string,
  cursor: number,
  held: readonly Holding[],
): Promise<Verdict> {
  const { first, head } = await journal.read(stream, cursor, 1, 1);
  const { epoch } = journal.identity();
  const scene: Scene = { journal, epoch, stream, cursor, first, head, held };
  return (
    (await fork(scene)) ?? (await ahead(scene)) ?? (await behind(scene)) ?? { kind: "as-it-was" }
  );
}

async function fork(scene: Scene): Promise<Verdict | null> {
  const { epoch, stream, cursor, first, head, held } = scene;
  for (const { epoch: theirs, from, to, digest } of held) {
    const event = to > head ? null : await eventAt(scene, to);
    const isUnknown = to > head && theirs === epoch;
    const isOurs = event !== null && event.epoch === theirs && digest !== null;
    const differs = isOurs && digestOf(event) !== digest;
    if (!isUnknown && !differs) continue;
    const range = `${from} to ${to} of ${stream} in epoch ${theirs}`;
    const why = isUnknown
      ? `It holds ${range}, and the journal ends at ${head}`
      : `It holds ${range}, and its last is not the journal's`;
    // Where it ends before the cursor it has lost what we sent.
    if (to > cursor) return { kind: "forked", from: cursor + 1, lost: null, why };
    return { kind: "forked", from: first, lost: lostBefore(first, 0), why };
  }
  return null;
}

async function ahead(scene: Scene): Promise<Verdict | null> {
  const { cursor, head, held } = scene;
  for (let position = cursor; ;) {
    const next = await eventAfter(scene, position);
    const range = next === null ? undefined : held.find((one) => covers(one, next));
    if (next === null || range === undefined)
      return position === cursor ? null : { kind: "ahead", to: position };
    position = await lastWithin(scene, range.epoch, next.seq, Math.min(range.to, head));
  }
}

async function behind(scene: Scene): Promise<Verdict | null> {
  const { cursor, first, held } = scene;
  const own = cursor < first ? null : await eventAt(scene, cursor);
  if (own === null || held.some((one) => covers(one, own))) return null;
  let to = first - 1;
  for (const range of held) {
    if (range.to >= cursor || range.to < first) continue;
    const event = await eventAt(scene, range.to);
    if (event?.epoch === range.epoch) to = Math.max(to, range.to);
  }
  const gone = held.filter((range) => range.to < first).map((range) => range.to);
  const lost = to === first - 1 ? lostBefore(first, Math.max(0, ...gone)) : null;
  return { kind: "behind", to, lost };
}

function lostBefore(first: number, upTo: number): Lost | null {
  return upTo + 1 <= first - 1 ? { from: upTo + 1, to: first - 1 } : null;
}

function covers({ epoch, from, to }: Holding, event: StoredEvent): boolean {
  return epoch === event.epoch && from <= event.seq && event.seq <= to;
}

/** The last seq up to `to` whose event is of that epoch; the one at `from` is. Epochs follow each other. */
async function lastWithin(scene: Scene, epoch: string, from: number, to: number): Promise<number> {
  let [low, high] = [from, to];
  while (low < high) {
    // The end first: mostly that is it.
    const middle = high === to && low === from ? high : Math.ceil((low + high) / 2);
    const event = await eventAfter(scene, middle - 1);
    if (event !== null && event.epoch === epoch && event.seq <= to) low = event.seq;
    else high = middle - 1;
  }
  return low;
}

async function eventAt(scene: Scene, seq: number): Promise<StoredEvent | null> {
  const event = await eventAfter(scene, seq - 1);
  return event?.seq === seq ? event : null;
}

async function eventAfter({ journal, stream }: Scene, seq: number): Promise<StoredEvent | null> {
  return (await journal.read(stream, seq, 1, 1)).events[0] ?? null;
}

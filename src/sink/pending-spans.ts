/**
 * Which requests were begun and have not been answered, by stream: the span of the batch, and into how many seqs
 * each it was cut. While one is pending, the batch that begins within it is sent as that span again, whatever has
 * been appended or thinned meanwhile, and no other span reaches into it: fresh events and a backlog may each have one.
 *
 * The mark for the cursor is the same in text: `EPOCH FROM-TO/EACH`, with commas between several.
 *
 * Bound: four for each stream, 80 letters each; a mark has 640 at the most.
 */
import type { StoredEvent } from "../core/event.ts";
import type { Span } from "./bisect.ts";
import type { Announcement, Batch, Position } from "./sink.ts";

interface Pending extends Span {
  readonly epoch: string;
  /** Seqs of one request. */
  readonly each: number;
  /** The first one that is not settled. */
  readonly next: number;
}

export interface Begun {
  readonly epoch: string;
  readonly spans: readonly Span[];
}

const pendingMax = 4;

export class PendingSpans {
  /** In the order in which they were begun. */
  readonly #pending = new Map<string, readonly Pending[]>();
  /** What the far side takes at once, as far as that is known. */
  #each = Number.MAX_SAFE_INTEGER;

  /** What a mark says stands only where memory says nothing. */
  load(positions: ReadonlyMap<string, Position>): void {
    for (const [stream, { seq, mark }] of positions) {
      const open = (this.#pending.get(stream) ?? parse(mark)).filter(({ to }) => to > seq);
      this.#pending.set(
        stream,
        open.map((pending) => ({ ...pending, next: Math.max(pending.next, seq + 1) })),
      );
    }
  }

  announce(batch: Batch): Announcement & { readonly mark: string } {
    const pending = this.#of(batch);
    const others = this.#others(batch.stream, pending);
    const mark = [...others, pending]
      .slice(-pendingMax)
      .map(({ epoch, from, to, each }) => `${epoch} ${from}-${to}/${each}`)
      .join(",");
    return { upTo: pending.to, mark };
  }

  begin(batch: Batch): Begun {
    const pending = this.#of(batch);
    const others = this.#others(batch.stream, pending);
    this.#pending.set(batch.stream, [...others, pending].slice(-pendingMax));
    const { epoch, to, each } = pending;
    // A replay goes back; what trimming took is not settled.
    const next = Math.min(pending.next, batch.events[0]?.seq ?? pending.from);
    const spans: Span[] = [];
    for (let from = pending.from; from <= to; from += each) {
      spans.push(...unsettled({ from, to: Math.min(to, from + each - 1) }, next));
    }
    return { epoch, spans };
  }

  /** Of the span that was begun last. */
  settled(stream: string, upTo: number): void {
    const all = this.#pending.get(stream) ?? [];
    const last = all.at(-1);
    if (last === undefined) return;
    const rest = upTo >= last.to ? [] : [{ ...last, next: upTo + 1 }];
    this.#pending.set(stream, [...all.slice(0, -1), ...rest]);
  }

  /** So many seqs in one request are too many for the far side. */
  shrink(seqs: number): void {
    this.#each = Math.max(1, Math.min(this.#each, Math.ceil(seqs / 2)));
  }

  /** What is pending, where the batch begins within it; else the batch, up to where its epoch or another one is. */
  #of({ stream, events }: Batch): Pending {
    const { epoch, seq: from } = events[0] as StoredEvent;
    const all = this.#pending.get(stream) ?? [];
    const known = all.find((each) => each.epoch === epoch && from >= each.from && from <= each.to);
    if (known !== undefined) return known;
    const before = Math.min(...all.filter((each) => each.from > from).map((each) => each.from));
    const to = Math.min(lastOf(events, epoch), before - 1);
    return { epoch, from, to, each: Math.min(this.#each, to - from + 1), next: from };
  }

  #others(stream: string, { from }: Pending): readonly Pending[] {
    return (this.#pending.get(stream) ?? []).filter((other) => other.from !== from);
  }
}

/**
 * What halving a span has left when everything before `next` is settled: the same halves, so that the one which was
 * under way is sent again as it was.
 */
function unsettled(span: Span, next: number): Span[] {
  const rest: Span[] = [];
  let { from, to } = span;
  while (from < next && from < to) {
    const middle = Math.floor((from + to) / 2);
    if (next > middle) from = middle + 1;
    else {
      rest.push({ from: middle + 1, to });
      to = middle;
    }
  }
  if (from >= next) rest.push({ from, to });
  return rest.toReversed();
}

function lastOf(events: readonly StoredEvent[], epoch: string): number {
  const other = events.findIndex((event) => event.epoch !== epoch);
  return events.at(other < 0 ? -1 : other - 1)?.seq ?? 0;
}

function parse(mark: string | null): Pending[] {
  return (mark ?? "").split(",").flatMap((text): Pending[] => {
    const match = /^(\S+) (\d+)-(\d+)\/(\d+)$/.exec(text);
    if (match === null) return [];
    const [, epoch = "", from, to, each] = match;
    const next = Number(from);
    return [{ epoch, from: next, to: Number(to), each: Math.max(1, Number(each)), next }];
  });
}

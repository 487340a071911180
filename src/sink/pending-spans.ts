/**
 * Which requests were begun and have not been answered, by stream: the span of the batch, and into how many seqs
 * each it was cut. While one is pending, the batch that begins within it is sent as that span again, whatever has
 * been appended or thinned meanwhile.
 *
 * The mark for the cursor is the same in one line: `EPOCH FROM-TO/EACH`.
 *
 * Bound: one for each stream.
 */
import type { StoredEvent } from "../core/event.ts";
import type { Span } from "./bisect.ts";
import type { Announcement, Batch, Position } from "./sink.ts";

interface Pending extends Span {
  readonly epoch: string;
  /** Seqs of one request. */
  readonly each: number;
}

export interface Begun {
  readonly epoch: string;
  readonly spans: readonly Span[];
}

export class PendingSpans {
  readonly #pending = new Map<string, Pending>();
  /** The first seq that is not settled. */
  readonly #next = new Map<string, number>();
  /** What the far side takes at once, as far as that is known. */
  #each = Number.MAX_SAFE_INTEGER;

  /** What a mark says stands only where memory says nothing. */
  load(positions: ReadonlyMap<string, Position>): void {
    for (const [stream, { seq, mark }] of positions) {
      this.#next.set(stream, seq + 1);
      const pending = parse(mark);
      if (pending !== null && !this.#pending.has(stream)) this.#pending.set(stream, pending);
    }
  }

  announce(batch: Batch): Announcement & { readonly mark: string } {
    const { epoch, from, to, each } = this.#of(batch);
    return { upTo: to, mark: `${epoch} ${from}-${to}/${each}` };
  }

  begin(batch: Batch): Begun {
    const pending = this.#of(batch);
    this.#pending.set(batch.stream, pending);
    const { epoch, to, each } = pending;
    // A replay goes back; what trimming took is not settled.
    const first = batch.events[0]?.seq ?? pending.from;
    const next = Math.min(this.#next.get(batch.stream) ?? pending.from, first);
    const spans: Span[] = [];
    for (let from = pending.from; from <= to; from += each) {
      spans.push(...unsettled({ from, to: Math.min(to, from + each - 1) }, next));
    }
    return { epoch, spans };
  }

  settled(stream: string, upTo: number): void {
    this.#next.set(stream, upTo + 1);
    if (upTo >= (this.#pending.get(stream)?.to ?? upTo)) this.#pending.delete(stream);
  }

  /** So many seqs in one request are too many for the far side. */
  shrink(seqs: number): void {
    this.#each = Math.max(1, Math.min(this.#each, Math.ceil(seqs / 2)));
  }

  /** What is pending, where the batch begins within it; else the batch, up to where its epoch ends. */
  #of({ stream, events }: Batch): Pending {
    const { epoch, seq: from } = events[0] as StoredEvent;
    const known = this.#pending.get(stream);
    if (known?.epoch === epoch && from >= known.from && from <= known.to) return known;
    const to = lastOf(events, epoch);
    return { epoch, from, to, each: Math.min(this.#each, to - from + 1) };
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

function parse(mark: string | null): Pending | null {
  const match = /^(\S+) (\d+)-(\d+)\/(\d+)$/.exec(mark ?? "");
  if (match === null) return null;
  const [, epoch = "", from, to, each] = match;
  return { epoch, from: Number(from), to: Number(to), each: Math.max(1, Number(each)) };
}

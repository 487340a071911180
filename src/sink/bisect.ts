/**
 * A batch of which the far side refuses something, halved until the culprits stand alone.
 *
 * Halves are cut by seq, not by count: what thinning has taken out of the middle meanwhile moves no cut, so a span
 * that is sent again is the same span. In order: what lies behind is sent when what lies before is settled.
 *
 * Bound: n culprits among m events cost at most 2 n log2 m requests and one for each half that is good.
 */
import type { StoredEvent } from "../core/event.ts";
import type { Verdict } from "./http-answers.ts";
import type { Refusal, SendResult } from "./sink.ts";

/** Seqs, both ends included. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

type Attempt = (events: readonly StoredEvent[], span: Span) => Promise<Verdict>;

/** Sends `events` as `spans`, which follow on each other and cover them. */
export async function sendSpans(
  events: readonly StoredEvent[],
  spans: readonly Span[],
  attempt: Attempt,
): Promise<SendResult> {
  const waiting = spans.toReversed();
  const refused: Refusal[] = [];
  let settled = 0;
  for (let span = waiting.pop(); span !== undefined; span = waiting.pop()) {
    const part = within(events, span, settled);
    if (part.length === 0) continue;
    const verdict = await attempt(part, span);
    if (verdict.as === "failure") return { settled, refused, failure: verdict.error };
    if (verdict.as === "confirmed") {
      for (const { index, error } of verdict.refused ?? []) {
        refused.push({ index: settled + index, error });
      }
      settled += part.length;
    } else if (part.length > 1) {
      waiting.push(...halves(part, span).toReversed());
    } else {
      refused.push({ index: settled, error: verdict.error });
      settled++;
    }
  }
  return { settled, refused };
}

function within(
  events: readonly StoredEvent[],
  { to }: Span,
  first: number,
): readonly StoredEvent[] {
  let end = first;
  while (end < events.length && (events[end]?.seq ?? 0) <= to) end++;
  return events.slice(first, end);
}

/** Both halves hold something: a half without an event would be the same request again. */
function halves(events: readonly StoredEvent[], { from, to }: Span): readonly [Span, Span] {
  const [first, last] = [events[0]?.seq ?? from, events.at(-1)?.seq ?? to];
  for (let [low, high] = [from, to]; ;) {
    const middle = Math.floor((low + high) / 2);
    if (middle < first) low = middle + 1;
    else if (middle >= last) high = middle;
    else {
      return [
        { from: low, to: middle },
        { from: middle + 1, to: high },
      ];
    }
  }
}

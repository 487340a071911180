/**
 * A group goes back to an earlier place in a stream: its cursor is moved in one unit, and its loop begins there.
 *
 * A sink whose far side knows what it was sent would skip all of it: it must be told to send it again, under new names
 * (`Sink.again`). One that keeps a place of its own beside the cursor (a file) cannot go back.
 *
 * A crash before the commit leaves everything as it was, after it the replay goes on.
 */
import { HoldfastError } from "../core/errors.ts";
import type { Journal } from "../journal/journal.ts";
import type { Sink } from "../sink/sink.ts";
import { fromCursor } from "./position.ts";

export interface Replayed {
  readonly group: string;
  readonly streams: readonly string[];
  /** Of a sink. */
  readonly sink?: Sink;
  /** What it has done becomes durable; left out: it does so by itself. */
  flush?(): Promise<void>;
  /** The cursor was moved: begin where the journal says. */
  reload(): void;
}

export interface ReplayWish {
  readonly stream: string;
  /** A seq, or ms since 1970 of a receipt. */
  readonly from: { readonly seq: number } | { readonly timeMs: number };
  readonly again: boolean;
}

type Journalled = Pick<Journal, "read" | "commit" | "commitSoon" | "cursor">;

/** The loop may move its cursor meanwhile: its commits are seconds apart. */
const triesMax = 5;

/** Gives back the seq that it begins with. @throws HoldfastError REPLAY_REFUSED; what a commit throws: nothing moved */
export async function replay(
  journal: Journalled,
  part: Replayed,
  { stream, from, again }: ReplayWish,
): Promise<number> {
  const { group, streams, sink } = part;
  if (!streams.includes(stream))
    throw refused(`${group} does not read stream ${stream}; it reads ${streams.join(", ")}`);
  if (sink?.again !== undefined && !again)
    throw refused(`the far side of ${group} has it, and would skip it: ask for it again (--again)`);
  await part.flush?.();
  const { first, head } = await journal.read(stream, 0, 1, 1);
  const wanted = "seq" in from ? from.seq : await seqAt(journal, stream, first, head, from.timeMs);
  const start = Math.max(wanted, first);
  for (let attempt = 0; attempt < triesMax; attempt++) {
    const cursor = journal.cursor(group, stream);
    if (start > cursor.seq + 1)
      throw refused(
        `${group} has not come to seq ${start} of ${stream} yet: it is at ${cursor.seq}`,
      );
    const { mark } = fromCursor(cursor);
    if (sink !== undefined && sink.again === undefined && mark !== null)
      throw refused(`${group} keeps its own place in what it has written`);
    const next = sink?.again?.(mark, start) ?? null;
    const move = { stream, from: cursor.seq, to: start - 1, mark: next };
    const committed = journal.commit({ group, cursors: [move] }, "soon");
    journal.commitSoon();
    if ((await committed) === "committed") {
      part.reload();
      return start;
    }
  }
  throw refused(`${group} is moving on: pause it first`);
}

/** The first seq that was received at that time or later. Receipts go forward, but for a clock that was put back. */
async function seqAt(
  journal: Journalled,
  stream: string,
  first: number,
  head: number,
  timeMs: number,
): Promise<number> {
  let [low, high] = [first, head + 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const [event] = (await journal.read(stream, middle - 1, 1, 1)).events;
    if (event === undefined || event.receivedAt >= timeMs) high = middle;
    else low = Math.max(middle, event.seq) + 1;
  }
  return low;
}

function refused(why: string): HoldfastError {
  return new HoldfastError("REPLAY_REFUSED", `Cannot replay: ${why}`);
}

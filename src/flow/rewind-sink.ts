/**
 * Sets a sink back in a stream while it runs: its cursor is moved in one unit, and its loop begins there.
 *
 * A sink whose far side knows what it was sent would skip all of it: it must be told to send it again, under new names
 * (`Sink.again`). One that keeps a place of its own beside the cursor (a file) cannot go back.
 *
 * A crash before the commit leaves everything as it was, after it the replay goes on.
 */
import type { RewindOrder, RewindReport } from "../core/replay.ts";
import type { Journal } from "../journal/journal.ts";
import type { Sink } from "../sink/sink.ts";
import { fromCursor } from "./position.ts";
import { placeOf, refused } from "./rewind.ts";

export interface RewindSinkParts {
  readonly journal: Pick<Journal, "read" | "commit" | "cursor" | "status">;
  readonly group: string;
  readonly sink: Pick<Sink, "again">;
  /** What was confirmed becomes durable. */
  flush(): Promise<void>;
  /** The cursor was moved: begin where the journal says. */
  reload(): void;
}

/** The loop may move its cursor meanwhile: its commits are seconds apart. */
const triesMax = 5;

/** @throws HoldfastError REPLAY_REFUSED; what a commit throws: nothing moved */
export async function rewindSink(
  parts: RewindSinkParts,
  order: RewindOrder,
): Promise<RewindReport> {
  const { journal, group, sink } = parts;
  const { stream, again } = order;
  if (sink.again !== undefined && !again)
    throw refused(`the far side of ${group} has it, and would skip it: ask for it again (--again)`);
  await parts.flush();
  const { from, isShortened } = await placeOf(journal, order);
  for (let attempt = 0; attempt < triesMax; attempt++) {
    const cursor = journal.cursor(group, stream);
    if (from > cursor.seq + 1)
      throw refused(
        `${group} has not come to seq ${from} of ${stream} yet: it is at ${cursor.seq}`,
      );
    const { mark } = fromCursor(cursor);
    if (sink.again === undefined && mark !== null)
      throw refused(`${group} keeps its own place in what it has written`);
    const next = sink.again?.(mark, from) ?? null;
    const move = { stream, from: cursor.seq, to: from - 1, mark: next };
    if ((await journal.commit({ group, cursors: [move] }, "soon")) === "committed") {
      parts.reload();
      return { from, cursor: cursor.seq, isShortened, removedKeys: 0 };
    }
  }
  throw refused(`${group} is moving on: pause it first`);
}

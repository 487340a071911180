/**
 * Tells upstream, in `_gaps`, that the journal goes on in a new epoch: for each stream the first seq that is named by it,
 * and the epoch before it. A receiver that keeps count by (device, epoch, stream) knows then where to go on from. (A fork
 * that a sink finds is told where it is found, agreement.ts.)
 *
 * Once for each epoch: what is told and the note that it was are one unit. Where the stream's first event of the epoch
 * is, is looked for in the journal, so that a crash before the unit changes nothing.
 */
import type { Context } from "../core/context.ts";
import { noHeaders } from "../core/event.ts";
import { gapsStream, type Journal } from "../journal/journal.ts";

const space = "_epochs";
const key = "told";

interface NoticeParts {
  readonly context: Context;
  readonly journal: Pick<Journal, "identity" | "status" | "read" | "readState" | "commit">;
}

/** @throws HoldfastError where the journal cannot say or do it now: it is told at the next start */
export async function tellEpoch({ context, journal }: NoticeParts): Promise<void> {
  const { epoch, parent } = journal.identity();
  if (parent === null) return;
  const told = await journal.readState(space, key);
  if (told !== null && Buffer.from(told).toString() === epoch) return;
  const now = context.clock.wallMs();
  const emits = [];
  for (const stream of journal.status().streams.keys()) {
    if (stream === gapsStream) continue;
    const from = await firstOf(journal, stream, epoch);
    // Nothing is missing: a range of no seq.
    const gap = { stream, from, to: from - 1, kept: 0, reason: `epoch ${epoch} after ${parent}` };
    const payload = Buffer.from(JSON.stringify(gap));
    const event = { key: stream, time: now, receivedAt: now, headers: noHeaders, payload };
    emits.push({ stream: gapsStream, event });
  }
  const state = [{ space, key, value: Buffer.from(epoch) }];
  await journal.commit({ group: space, cursors: [], emits, state }, "linger");
}

/** The seq of the first event of an epoch that goes to the end of the stream; of none: the next one's. */
async function firstOf(
  journal: Pick<Journal, "read">,
  stream: string,
  epoch: string,
): Promise<number> {
  const { first, head } = await journal.read(stream, 0, 1, 1);
  let [low, high] = [first, head + 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { events } = await journal.read(stream, middle - 1, 1, 1);
    const [event] = events;
    if (event === undefined || event.epoch === epoch) high = middle;
    else low = event.seq + 1;
  }
  return low;
}

/**
 * Before a batch is sent to a far side that knows a request which comes twice: what the sink says of it becomes
 * durable, and a batch that was begun before is made as long as it was. How long a batch is depends on what had been
 * written, and how it lay on disk, when it was read.
 *
 * Bound: a batch is never longer than one that was read (read-ahead.ts), since it was one.
 */
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import type { Batch, SendResult, Sink } from "../sink/sink.ts";
import type { Progress } from "./progress.ts";
import { batchBytesMax } from "./read-ahead.ts";

interface AnnounceParts {
  readonly sink: Sink;
  readonly journal: Pick<Journal, "read">;
  readonly progress: Progress;
  /** Whether an event is for this sink. */
  readonly isOwn: (event: StoredEvent) => boolean;
}

interface Announced {
  readonly batch: Batch;
  /** What was read with it and is not for this sink. */
  readonly others: readonly StoredEvent[];
}

/**
 * The batch to send, of what was read; or what came of it where it cannot be sent now: we are stopped, or the cursor
 * has moved.
 */
export async function announced(
  read: Batch,
  { sink, journal, progress, isOwn }: AnnounceParts,
): Promise<Announced | SendResult> {
  const divided = (events: readonly StoredEvent[]): Announced => ({
    batch: { ...read, events: events.filter(isOwn) },
    others: events.filter((event) => !isOwn(event)),
  });
  const own = divided(read.events);
  const { batch } = own;
  const announcement = sink.announce?.(batch);
  if (announcement === undefined) return own;
  const { mark, upTo } = announcement;
  const { stream } = batch;
  const nothing = { settled: 0, refused: [] };
  if (mark !== undefined) {
    const { seq } = progress.confirmed(stream);
    await progress.settle(stream, seq, seq, mark);
    if (progress.durable(stream).mark !== mark) await progress.flush();
    if (progress.hasMoved || progress.durable(stream).mark !== mark) return nothing;
  }
  try {
    return divided(await reaching(upTo, read, journal));
  } catch (error) {
    if (error instanceof HoldfastError) return { ...nothing, failure: error };
    throw error;
  }
}

async function reaching(
  upTo: number,
  { stream, events }: Batch,
  journal: Pick<Journal, "read">,
): Promise<readonly StoredEvent[]> {
  const all = [...events];
  for (let last = all.at(-1)?.seq ?? upTo; last < upTo; last = all.at(-1)?.seq ?? upTo) {
    const more = await journal.read(stream, last, upTo - last, batchBytesMax);
    const wanted = more.events.filter(({ seq }) => seq <= upTo);
    if (wanted.length === 0) break;
    all.push(...wanted);
  }
  return all;
}

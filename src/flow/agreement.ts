/**
 * Puts a sink's cursors where its far side says that they are (handshake.ts), before anything is sent: each in one unit
 * with what is to be told of it in `_gaps`.
 *
 * A crash between the new epoch and the cursors' commits leaves an epoch too many, and the next handshake goes on.
 */
import type { Context } from "../core/context.ts";
import { noHeaders } from "../core/event.ts";
import { gapsStream, type Journal, type JournalHistory } from "../journal/journal.ts";
import type { Sink } from "../sink/sink.ts";
import { compare, type Lost } from "./handshake.ts";
import type { Emit, Progress } from "./progress.ts";

export interface AgreementParts {
  readonly context: Context;
  readonly journal: Pick<Journal, "read" | "identity"> & JournalHistory;
  readonly sink: Sink;
  readonly streams: readonly string[];
  readonly progress: Progress;
}

interface Wanted {
  readonly to: number;
  readonly forgets: boolean;
  readonly lost: Lost | null;
}

/** @throws HoldfastError where the journal cannot say or do it now: nothing may be sent then */
export async function agree(parts: AgreementParts): Promise<void> {
  const { context, journal, sink, streams, progress } = parts;
  if (sink.held === undefined) return;
  const corrections = new Map<string, Wanted>();
  const forks = new Map<string, number>();
  let reason = "";
  for (const stream of streams) {
    const { seq } = progress.confirmed(stream);
    const verdict = await compare(journal, stream, seq, sink.held(stream));
    if (verdict.kind === "as-it-was") continue;
    if (verdict.kind === "ahead") {
      corrections.set(stream, { to: verdict.to, forgets: false, lost: null });
      context.log.info(`Sink ${context.name} has more of stream ${stream} than was noted`, {
        noted: seq,
        has: verdict.to,
      });
    } else if (verdict.kind === "behind") {
      corrections.set(stream, { to: verdict.to, forgets: true, lost: verdict.lost });
      context.log.warn(
        `Sink ${context.name} has less of stream ${stream} than it took: what the journal keeps is sent again`,
        { took: seq, has: verdict.to },
      );
    } else {
      forks.set(stream, verdict.from);
      reason ||= `${context.name}: ${verdict.why}`;
      corrections.set(stream, { to: verdict.from - 1, forgets: true, lost: verdict.lost });
    }
  }
  const told = forks.size === 0 ? [] : await begin(parts, forks, reason);
  for (const [stream, { to, forgets, lost }] of corrections) {
    const gaps = lost === null ? [] : [gapOf(context, stream, lost, 0, "upstream lost them")];
    await progress.correct([{ stream, to, forgets }], [...told.splice(0), ...gaps]);
  }
}

/** Gives back what is to be told of it. */
async function begin(
  { context, journal }: AgreementParts,
  forks: ReadonlyMap<string, number>,
  reason: string,
): Promise<Emit[]> {
  const { epoch, parent } = await journal.beginEpoch({ from: forks, reason });
  context.log.warn(
    `Sink ${context.name} holds other events under our names: a new epoch has begun`,
    { reason, epoch, parent },
  );
  const told: Emit[] = [];
  for (const [stream, from] of forks) {
    const { head } = await journal.read(stream, from - 1, 1, 1);
    const kept = head - from + 1;
    if (kept <= 0) continue;
    told.push(gapOf(context, stream, { from, to: head }, kept, `epoch ${epoch} after ${parent}`));
  }
  return told;
}

function gapOf(
  context: Context,
  stream: string,
  { from, to }: Lost,
  kept: number,
  reason: string,
): Emit {
  const now = context.clock.wallMs();
  const payload = Buffer.from(JSON.stringify({ stream, from, to, kept, reason }));
  const event = { key: stream, time: now, receivedAt: now, headers: noHeaders, payload };
  return { stream: gapsStream, event };
}

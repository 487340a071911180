/**
 * How far event time has come in the streams that a window reads: the time behind which no event is waited for.
 *
 * It is the least of all its streams' newest event times, less the lateness. A stream that has gone silent is left out
 * until it speaks again; when all have, nothing is waited for that is open. It never goes back, and nothing moves it
 * but events and that silence: neither the wall clock nor a step of it. Plain JSON, never changed.
 */

export interface Watermark {
  /** null: no event was seen. */
  readonly at: number | null;
  /** By stream: its newest event time, and whether it has gone silent since. */
  readonly streams: Readonly<Record<string, readonly [newest: number, isSilent: boolean]>>;
}

export const noWatermark: Watermark = { at: null, streams: {} };

export function afterEvent(
  mark: Watermark,
  stream: string,
  time: number,
  latenessMs: number,
): Watermark {
  const [newest, isSilent] = mark.streams[stream] ?? [time, true];
  if (!isSilent && time <= newest) return mark;
  return advanced(mark, { ...mark.streams, [stream]: [Math.max(newest, time), false] }, latenessMs);
}

/** `stream` has gone silent; `openEnd`: when the last window that is open now would be over. */
export function afterSilence(
  mark: Watermark,
  stream: string,
  latenessMs: number,
  openEnd: number,
): Watermark {
  const known = mark.streams[stream];
  if (known === undefined) return mark;
  const next = advanced(mark, { ...mark.streams, [stream]: [known[0], true] }, latenessMs);
  const isAllSilent = Object.values(next.streams).every(([, isSilent]) => isSilent);
  return isAllSilent ? { ...next, at: Math.max(next.at ?? openEnd, openEnd) } : next;
}

/** Without streams that are read no more: no event of theirs comes, and nobody hears their silence. */
export function onlyOf(mark: Watermark, streams: readonly string[] | null): Watermark {
  const known = Object.entries(mark.streams);
  const left = known.filter(([stream]) => streams?.includes(stream) ?? true);
  return left.length === known.length ? mark : { ...mark, streams: Object.fromEntries(left) };
}

export function isSpeaking(mark: Watermark, stream: string): boolean {
  return mark.streams[stream]?.[1] === false;
}

function advanced({ at }: Watermark, streams: Watermark["streams"], latenessMs: number): Watermark {
  const newest = Object.values(streams).flatMap(([time, isSilent]) => (isSilent ? [] : [time]));
  if (newest.length === 0) return { at, streams };
  const least = Math.min(...newest) - latenessMs;
  return { at: at === null ? least : Math.max(at, least), streams };
}

/** How an event that cannot go on becomes a dead letter: the same for sources, processors and sinks. */
import type { HoldfastError } from "../core/errors.ts";
import type { NewEvent } from "../core/event.ts";
import type { NewDeadLetter } from "../journal/journal.ts";

/**
 * The longest reason kept with a dead letter, bytes: 1 KiB. Enough for a message and its state; a far side that
 * answers with a page of HTML must not fill the journal with it.
 */
export const reasonBytesMax = 1024;

export function deadLetterOf(
  origin: NewDeadLetter["origin"],
  originName: string,
  stream: string,
  seq: number | null,
  event: NewEvent,
  error: HoldfastError,
  attempts: number,
  firstFailedAt: number,
  now: number,
): NewDeadLetter {
  return {
    stream,
    seq,
    origin,
    originName,
    code: error.code,
    reason: boundedReason(error.message),
    attempts,
    firstFailedAt,
    lastFailedAt: now,
    key: event.key,
    time: event.time,
    headers: event.headers,
    payload: event.payload,
  };
}

/** At most `reasonBytesMax` bytes of UTF-8, cut between characters, with an ellipsis where something is missing. */
export function boundedReason(message: string): string {
  const bytes = Buffer.from(message);
  if (bytes.length <= reasonBytesMax) return message;
  const ellipsis = "…";
  let end = reasonBytesMax - Buffer.byteLength(ellipsis);
  // A byte 10xxxxxx continues a character (RFC 3629): go back to the one that begins it.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString("utf8", 0, end) + ellipsis;
}

/** What an answer of the worker holds, as events. */
import type { StoredEvent } from "../core/event.ts";
import type { Requests } from "./protocol.ts";
import { decodeSections } from "./section.ts";
import { indexAfter } from "./sparse.ts";

/** All behind `after`. `onLast` is given the last chunk's, where no sync of the clock can yet put them right. */
export function eventsIn(
  answer: Requests["read"]["answer"],
  stream: string,
  after: number,
  onLast: (events: ReturnType<typeof decodeSections>) => void,
): StoredEvent[] {
  const events: StoredEvent[] = [];
  for (const chunk of answer.chunks) {
    const decoded = decodeSections(chunk.body, { stream, ...chunk });
    for (let index = indexAfter(decoded, after); index < decoded.length; index++)
      events.push(decoded[index] as StoredEvent);
    const isFinal = chunk.clock === "synced" || chunk.bootOffsetMs !== null;
    if (isFinal && chunk === answer.chunks.at(-1)) onLast(decoded);
  }
  return events;
}

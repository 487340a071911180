/** The main thread's way to a stream's events: from what was just read, else from the worker. */
import type { Channel } from "./channel.ts";
import type { ReadResult } from "./journal.ts";
import type { Overview } from "./overview.ts";
import { atMost, type RecentChunks } from "./recent-chunks.ts";

export interface ReadParts {
  readonly channel: () => Channel;
  readonly overview: Overview;
  readonly recent: RecentChunks;
}

/** `journal.ts` says what it promises. */
export async function readEvents(
  { channel, overview, recent }: ReadParts,
  ask: { stream: string; after: number; maxEvents: number; maxBytes: number },
): Promise<ReadResult> {
  await overview.salvage;
  const { stream, after, maxEvents, maxBytes } = ask;
  const { first, head } = overview.stream(stream);
  if (after >= head) return { events: [], first, head };
  const kept = recent.find(stream, Math.max(after, first - 1));
  if (kept.length > 0) return { events: atMost(kept, maxEvents, maxBytes), first, head };
  const answer = await channel().ask("read", ask);
  overview.damaged(answer.damaged);
  const events = recent.decode(stream, after, answer.chunks);
  return { events: atMost(events, maxEvents, maxBytes), first: answer.first, head: answer.head };
}

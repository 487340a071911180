/**
 * `GET /streams/{stream}/events`: events as NDJSON, and with `follow` those to come.
 *
 * It reads a page, writes it, and waits until the client has taken it: what it holds is one page, whatever the client
 * does. A follower costs one connection and one listener; it ends when the client leaves or the server closes.
 */
import type { Clock } from "../core/clock.ts";
import type { PayloadFormat } from "../core/event.ts";
import type { Journal } from "../journal/journal.ts";
import type { Write } from "./answer.ts";
import { eventLine } from "./event-json.ts";

export interface Feed {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly stream: string;
  readonly format: PayloadFormat;
  /** Start behind this seq. */
  readonly after: number;
  /** Not past this seq; left out: go on with what comes. */
  readonly until?: number;
  /** End after so many. */
  readonly limit: number;
}

/** Read at once: one chunk of a busy stream, and no more memory than a payload of the largest kind takes anyway. */
const pageEventsMax = 256;
const pageBytesMax = 256 * 1024;
/** An empty line that often, ms, shows that the follower is still there; half of the server's idle timeout. */
const heartbeatMs = 25_000;

export async function feedEvents(feed: Feed, write: Write, signal: AbortSignal): Promise<void> {
  const { journal, stream } = feed;
  const { device } = journal.identity();
  let after = feed.after;
  let left = feed.limit;
  while (left > 0 && !signal.aborted) {
    if (feed.until !== undefined && after >= feed.until) return;
    const appended = nextAppend(feed, after, signal);
    try {
      const room = feed.until === undefined ? left : Math.min(left, feed.until - after);
      const page = await journal.read(stream, after, Math.min(room, pageEventsMax), pageBytesMax);
      const last = page.events.at(-1);
      if (last === undefined) {
        // Nothing there (any more): a reader is done, a follower waits.
        if (feed.until !== undefined) return;
        if (!(await appended.happens)) await write("\n");
        continue;
      }
      left -= page.events.length;
      after = last.seq;
      await write(
        page.events.map((event) => `${eventLine(device, event, feed.format)}\n`).join(""),
      );
    } finally {
      appended.dispose();
    }
  }
}

/** Listens from before the read on, so that no append falls between the two. False: a heartbeat is due. */
function nextAppend(
  { journal, clock, stream }: Feed,
  after: number,
  signal: AbortSignal,
): { happens: Promise<boolean>; dispose: () => void } {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const leave = (): void => resolve(true);
  const remove = journal.onAppended((name, head) => {
    if (name === stream && head > after) resolve(true);
  });
  const timer = clock.after(heartbeatMs, () => resolve(false));
  signal.addEventListener("abort", leave, { once: true });
  return {
    happens: promise,
    dispose() {
      remove();
      timer.cancel();
      signal.removeEventListener("abort", leave);
    },
  };
}

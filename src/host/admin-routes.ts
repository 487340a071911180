/** The admin API's routes over the journal: streams and groups. */
import type { Context } from "../core/context.ts";
import type { PayloadFormat } from "../core/event.ts";
import type { Redelivery } from "../core/replay.ts";
import { keptAfter, type Journal, type JournalUpkeep } from "../journal/journal.ts";
import type { GroupControl } from "./admin-groups.ts";
import type { PauseControl } from "./admin-pause.ts";
import { knownStream, wholeNumber } from "./admin-request.ts";
import { json, Problem, type Answer } from "./answer.ts";
import { feedEvents } from "./event-feed.ts";
import type { Request, Route } from "./http.ts";
import type { Rates } from "./rates.ts";

export interface AdminView {
  readonly context: Context;
  readonly journal: Journal & JournalUpkeep;
  readonly sinks: ReadonlyMap<string, SinkControl>;
  readonly paused: PauseControl;
  readonly absent: AbsentControl;
  /** What is known of the streams' payloads; a stream that is not named here is JSON. */
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  readonly redelivery: Redelivery;
  /** The processors that run, by name. */
  readonly processors: ReadonlyMap<string, GroupControl>;
}

/** Groups that the configuration does not name (any more). */
export interface AbsentControl {
  /** The configuration names it. */
  isPresent(group: string): boolean;
  names(): readonly string[];
  /** ms since 1970; null: not known yet. */
  since(group: string): number | null;
  drop(group: string): Promise<void>;
}

/** What can be asked of a running sink. */
export interface SinkControl extends Pick<GroupControl, "from" | "rewind"> {
  /** Events that its far side has not confirmed, by stream. */
  lag(): ReadonlyMap<string, number>;
  /** Delivers what waits by now, whatever its hours and its back-off say. */
  sync(): void;
  /** How many events of that are still to be delivered; null: none, or it has failed. */
  syncing(): number | null;
}

/** Followers at once: they must not take all connections from who asks for the health. Kept in `streamEvents`. */
const followersMax = 16;
/** A page of events for who asks for no number, and the most that can be asked for at once. */
const eventsStandard = 100;
const eventsMax = 1_000_000;

export function streamRoutes(parts: AdminView): Route[] {
  return [
    {
      method: "GET",
      path: "/streams",
      summary: "All streams: their oldest and newest seq, bytes and dead letters",
      handle: () => json({ streams: streamList(parts) }),
    },
    {
      method: "GET",
      path: "/streams/{stream}/events",
      summary: "Events as NDJSON; with follow those to come, and an empty line now and then",
      query: {
        from: "A seq, or -N for the last N events; left out: -100",
        limit: `At most so many (${eventsStandard}; with follow no bound)`,
        follow: "true: go on with what comes",
      },
      handle: streamEvents(parts),
    },
  ];
}

function streamList({ journal, formats }: AdminView): unknown[] {
  const { streams } = journal.status();
  const names = [...new Set([...formats.keys(), ...streams.keys()])].sort();
  return names.map((name) => {
    const status = streams.get(name) ?? emptyStream;
    const { first, head, bytes, deadLetters } = status;
    const events = keptAfter(status, 0);
    return { name, format: formats.get(name) ?? "json", first, head, events, bytes, deadLetters };
  });
}

const emptyStream = { first: 1, head: 0, bytes: 0, deadLetters: 0 };

function streamEvents(parts: AdminView): (request: Request) => Answer {
  const { journal, formats } = parts;
  let followers = 0;
  return ({ query, parameters }) => {
    const stream = knownStream(parts, parameters["stream"] ?? "");
    const head = journal.status().streams.get(stream)?.head ?? 0;
    const from = wholeNumber(query, "from", -eventsStandard, Number.MIN_SAFE_INTEGER);
    const follows = query.get("follow") === "true" || query.get("follow") === "";
    const limit = wholeNumber(
      query,
      "limit",
      follows ? Number.MAX_SAFE_INTEGER : eventsStandard,
      1,
    );
    if (!follows && limit > eventsMax) throw new Problem(400, `limit is at most ${eventsMax}`);
    if (follows && followers >= followersMax) {
      throw new Problem(503, `${followersMax} are following already`, {}, { "retry-after": "10" });
    }
    const feed = {
      journal,
      clock: parts.context.clock,
      stream,
      format: formats.get(stream) ?? "json",
      after: from < 0 ? Math.max(0, head + from) : Math.max(0, from - 1),
      limit,
      ...(!follows && { until: head }),
    } as const;
    return {
      status: 200,
      headers: { "content-type": "application/x-ndjson" },
      async body(write, signal) {
        followers += follows ? 1 : 0;
        try {
          await feedEvents(feed, write, signal);
        } finally {
          followers -= follows ? 1 : 0;
        }
      },
    };
  };
}

export function groupsRoute({ journal, paused, absent }: AdminView, rates: Rates): Route {
  return {
    method: "GET",
    path: "/groups",
    summary:
      "All groups: where they stand in their streams, what they have before them, how fast they go",
    handle() {
      const { groups, streams } = journal.status();
      const gone = new Set(absent.names());
      const rows = groups.map(({ group, stream, cursor }) => {
        const status = streams.get(stream) ?? emptyStream;
        const { head } = status;
        // What was trimmed before the group came to it is no longer before it.
        const lag = keptAfter(status, cursor);
        return {
          group,
          stream,
          cursor,
          head,
          lag,
          paused: paused.isPaused(group),
          configured: !gone.has(group),
          absentSince: gone.has(group) ? isoOf(absent.since(group)) : null,
          perSecond: rates.perSecond(group, stream, cursor),
        };
      });
      return json({ groups: rows });
    },
  };
}

function isoOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

export function dropGroupRoute({ absent, context }: AdminView): Route {
  return {
    method: "DELETE",
    path: "/groups/{group}",
    summary: "Forgets a group that the configuration does not name: its place, its state",
    async handle({ parameters }) {
      const group = parameters["group"] ?? "";
      if (absent.isPresent(group)) {
        throw new Problem(409, `Group ${group} is in the configuration: take it out of it first`);
      }
      const names = absent.names();
      if (!names.includes(group)) {
        const known = names.join(", ") || "none";
        throw new Problem(
          404,
          `There is no such group ${group} beside the configuration's; there is ${known}`,
        );
      }
      await absent.drop(group);
      context.log.info(`Group ${group} was dropped, as a person has asked`);
      return json({ group, dropped: true });
    },
  };
}

/** The admin API's routes over processors that run: a replay, and what they remember. */
import { endOf } from "../core/expiring.ts";
import { readTime } from "../core/event-time.ts";
import { emptySpace } from "../journal/journal.ts";
import type { RewindOrder, RewindReport } from "../core/replay.ts";
import { wholeNumber } from "./admin-request.ts";
import type { AdminView } from "./admin-routes.ts";
import { json, Problem } from "./answer.ts";
import type { Request, Route } from "./http.ts";

const entriesStandard = 100;
const entriesMax = 1000;

/** A group that runs. */
export interface GroupControl {
  readonly from: readonly string[];
  /** Where it keeps what it remembers. */
  readonly spaces: readonly string[];
  /** @throws HoldfastError REPLAY_REFUSED */
  rewind(order: RewindOrder): Promise<RewindReport>;
  /** Runs `act` while it stands still; it goes on from what the journal says then. */
  exclusively<T>(act: () => Promise<T>): Promise<T>;
}

export function processorRoutes(parts: AdminView): Route[] {
  return [replayRoute(parts), spacesRoute(parts), stateRoute(parts), removeRoute(parts)];
}

function replayRoute({ processors, sinks, context }: AdminView): Route {
  return {
    method: "POST",
    path: "/groups/{group}/replay",
    summary:
      "Sets a processor or a sink back in a stream, while it runs: what it gave is given again",
    query: {
      stream: "One that it reads",
      from: "A seq, or a time of receipt in ISO 8601; what is not kept any more is left out",
      state: "keep or reset what it remembers; must be said where it remembers something",
      again: "true: send it to a far side that has it already, under new names",
    },
    async handle({ query, parameters }) {
      const name = parameters["group"] ?? "";
      const group = processors.get(name) ?? sinks.get(name);
      if (group === undefined) {
        const known = [...processors.keys(), ...sinks.keys()].sort().join(", ") || "none";
        throw new Problem(404, `There is no group ${name}; there is ${known}`);
      }
      const stream = query.get("stream") ?? "";
      if (!group.from.includes(stream)) {
        const reads = group.from.join(", ");
        throw new Problem(404, `${name} reads no stream ${stream}; it reads ${reads}`);
      }
      const state = query.get("state");
      if (state !== null && state !== "keep" && state !== "reset")
        throw new Problem(400, `state is keep or reset: found ${state}`);
      const again = query.get("again") === "true";
      const result = await group.rewind({ stream, from: placeIn(query), state, again });
      context.log.info(`${name} was set back in stream ${stream}`, { ...result, state });
      return json({ group: name, stream, ...result });
    },
  };
}

function placeIn(query: URLSearchParams): RewindOrder["from"] {
  const text = query.get("from") ?? "";
  if (/^\d+$/.test(text)) return { seq: Math.max(1, Number(text)) };
  const time = readTime(text);
  if (time !== null) return { time };
  throw new Problem(400, `from is a seq, or a time in ISO 8601: found ${text || "nothing"}`);
}

function spacesRoute({ journal }: AdminView): Route {
  return {
    method: "GET",
    path: "/state",
    summary: "What processors remember: the spaces, how many keys and bytes in each",
    handle: async () => json({ spaces: await journal.readStateSpaces() }),
  };
}

function stateRoute({ journal }: AdminView): Route {
  return {
    method: "GET",
    path: "/state/{space}",
    summary: "The keys of one space and their values, in order",
    query: {
      key: "This one alone",
      after: "Those behind this key",
      limit: `At most so many (${entriesStandard}; up to ${entriesMax})`,
    },
    async handle({ query, parameters }) {
      const space = parameters["space"] ?? "";
      const limit = wholeNumber(query, "limit", entriesStandard, 1);
      if (limit > entriesMax) throw new Problem(400, `limit is at most ${entriesMax}`);
      const key = query.get("key");
      if (key === null) {
        const found = await journal.readStates(space, query.get("after"), limit);
        const entries = found.map((each) => ({ key: each.key, ...shown(each.value) }));
        return json({ space, entries });
      }
      const value = await journal.readState(space, key);
      if (value === null) throw new Problem(404, `Space ${space} has no key ${key}`);
      return json({ space, entries: [{ key, ...shown(value) }] });
    },
  };
}

/** State is JSON, always; perhaps with an end. */
function shown(bytes: Uint8Array): { readonly value: unknown; readonly endsAt?: string } {
  const { value, endsAt } = endOf(bytes);
  const json = JSON.parse(Buffer.from(value).toString("utf8")) as unknown;
  return { value: json, ...(endsAt !== null && { endsAt: new Date(endsAt).toISOString() }) };
}

function removeRoute(parts: AdminView): Route {
  return {
    method: "DELETE",
    path: "/state/{space}",
    summary: "Removes keys of one space, all or those named; its processor begins anew with them",
    query: { key: "A key; may be there several times; left out: all" },
    async handle(request) {
      const space = request.parameters["space"] ?? "";
      const owner = [...parts.processors.values()].find(({ spaces }) => spaces.includes(space));
      const remove = (): Promise<number> => removed(parts, space, request);
      const count = await (owner === undefined ? remove() : owner.exclusively(remove));
      parts.context.log.info(`State of ${space} was removed`, { keys: count });
      return json({ space, removed: count });
    },
  };
}

async function removed({ journal }: AdminView, space: string, { query }: Request): Promise<number> {
  const named = query.getAll("key");
  if (named.length === 0) return emptySpace(journal, space);
  const keys = await present(journal, space, named);
  const state = keys.map((key) => ({ space, key, value: null }));
  if (keys.length > 0)
    await journal.commit({ group: `state:${space}`, cursors: [], state }, "soon");
  return keys.length;
}

async function present(
  journal: AdminView["journal"],
  space: string,
  keys: readonly string[],
): Promise<string[]> {
  const found = await Promise.all(keys.map((key) => journal.readState(space, key)));
  return keys.filter((_, index) => found[index] !== null);
}

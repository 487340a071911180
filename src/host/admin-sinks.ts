/** The admin API's routes over the sinks: how each is, and "deliver now". */
import type { AdminParts } from "./admin.ts";
import { json, Problem } from "./answer.ts";
import type { Request, Route } from "./http.ts";

/** A sink, as its routes show it. */
export interface SinkJson {
  readonly sink: string;
  /** Events that its far side has not confirmed. */
  readonly waiting: number;
  readonly streams: Readonly<Record<string, number>>;
  /** How many of those that waited when it was asked to deliver now are left; null: none, or it has failed. */
  readonly syncing: number | null;
  readonly status: string;
  readonly detail: string | null;
}

export function sinkRoutes({ sinks, health, context }: AdminParts): Route[] {
  const show = (name: string): SinkJson => {
    const sink = sinks.get(name);
    if (sink === undefined) {
      const names = [...sinks.keys()].join(", ");
      throw new Problem(404, `There is no sink ${name}; there is ${names || "none"}`);
    }
    const lag = sink.lag();
    const { components } = health.snapshot();
    // Where another part has the name too.
    const part = components[`sink.${name}`] ?? components[name];
    return {
      sink: name,
      waiting: [...lag.values()].reduce((sum, events) => sum + events, 0),
      streams: Object.fromEntries(lag),
      syncing: sink.syncing(),
      status: part?.status ?? "ok",
      detail: part?.["detail"] === undefined ? null : String(part["detail"]),
    };
  };
  const nameIn = ({ parameters }: Request): string => parameters["sink"] ?? "";
  return [
    {
      method: "GET",
      path: "/sinks",
      summary: "All sinks: what they have before them, and how they are",
      handle: () => json({ sinks: [...sinks.keys()].map(show) }),
    },
    {
      method: "GET",
      path: "/sinks/{sink}",
      summary: "One sink",
      handle: (request) => json(show(nameIn(request))),
    },
    {
      method: "POST",
      path: "/sinks/{sink}/sync",
      summary:
        "Delivers what waits by now, whatever its hours and its back-off say; answers at once with 202",
      handle(request) {
        const name = nameIn(request);
        const shown = show(name);
        context.log.info(`Sink ${name} was asked to deliver now`, { waiting: shown.waiting });
        sinks.get(name)?.sync();
        return json(show(name), 202);
      },
    },
  ];
}

/** The admin API's route that lets a group go back. */
import type { AdminView } from "./admin-routes.ts";
import { json, Problem } from "./answer.ts";
import type { Route } from "./http.ts";

export interface ReplayWish {
  readonly stream: string;
  /** A seq, or ms since 1970 of a receipt. */
  readonly from: { readonly seq: number } | { readonly timeMs: number };
  /** To a far side that has it already, under new names. */
  readonly again: boolean;
}

export function replayRoute({ context, replay }: AdminView): Route {
  return {
    method: "POST",
    path: "/groups/{group}/replay",
    summary: "A group goes back to an earlier place in a stream, and on from there",
    query: {
      stream: "The stream",
      from: "A seq, or the time of a receipt (ISO 8601)",
      again: "true: send it to a far side that has it already, under new names",
    },
    async handle({ parameters, query }) {
      const group = parameters["group"] ?? "";
      const stream = query.get("stream") ?? "";
      const text = query.get("from") ?? "";
      const seq = /^\d+$/.test(text) ? Number(text) : null;
      const timeMs = Date.parse(text);
      if (seq === null && Number.isNaN(timeMs)) {
        const why = `from is a seq or a time such as 2026-11-28T10:00:00Z: found ${text || "nothing"}`;
        throw new Problem(400, why);
      }
      const from = seq === null ? { timeMs } : { seq };
      const start = await replay(group, { stream, from, again: query.get("again") === "true" });
      if (start === null) throw new Problem(404, `There is no group ${group}`);
      context.log.info(`Group ${group} goes back`, { stream, from: start });
      return json({ group, stream, from: start });
    },
  };
}

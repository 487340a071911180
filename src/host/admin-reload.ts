/** The admin API's routes that have the configuration read again. */
import { json } from "./answer.ts";
import type { Route } from "./http.ts";

/** One reload, as `GET /reload` shows the last. */
export interface ReloadJson {
  /** Counts from 1 with each start of the process; what is asked for while one goes on is one more. */
  readonly number: number;
  /** `refused`: the old configuration goes on, for these reasons. */
  readonly outcome: "applied" | "refused";
  readonly problems: readonly string[];
}

export interface ReloadControl {
  /** Gives its number. It begins when the answer is on its way: every part is closed and opened again. */
  ask(): number;
  /** null: there was none yet. */
  last(): ReloadJson | null;
}

export function reloadRoutes(reload: ReloadControl): Route[] {
  return [
    {
      method: "POST",
      path: "/reload",
      summary: "Reads the configuration again; with mistakes the old one goes on",
      handle: () => json({ number: reload.ask() }, 202),
    },
    {
      method: "GET",
      path: "/reload",
      summary: "How the last reload ended",
      handle: () => json({ last: reload.last() }),
    },
  ];
}

/** The admin API's routes that let a group stand still, and go on. */
import type { AdminView } from "./admin-routes.ts";
import { json, Problem } from "./answer.ts";
import type { Route } from "./http.ts";

/** Which groups stand still, and the asking for it. */
export interface PauseControl {
  names(): readonly string[];
  isPaused(group: string): boolean;
  /** On disk when it resolves. */
  set(group: string, isPaused: boolean): Promise<void>;
}

/** Until it is resumed, over restarts too. */
export function pauseRoutes({ paused, context }: AdminView): Route[] {
  const route = (verb: "pause" | "resume", summary: string): Route => ({
    method: "POST",
    path: `/groups/{group}/${verb}`,
    summary,
    async handle({ parameters }) {
      const group = parameters["group"] ?? "";
      const names = paused.names();
      if (!names.includes(group)) {
        const known = names.join(", ") || "none";
        throw new Problem(404, `There is no group ${group}; there is ${known}`);
      }
      await paused.set(group, verb === "pause");
      context.log.info(`Group ${group} was asked to ${verb}`);
      return json({ group, paused: paused.isPaused(group) });
    },
  });
  return [
    route("pause", "A processor or a sink stands still; its events wait in the journal"),
    route("resume", "It goes on where it stood"),
  ];
}

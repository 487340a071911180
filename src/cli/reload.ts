/** `holdfast reload`: the running agent reads its configuration again. */
import { parseArgs } from "node:util";
import { systemClock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { ReloadJson } from "../host/admin-reload.ts";
import { adminOptions, connectAdmin, type AdminClient, type AdminFlags } from "./admin-client.ts";
import type { Command } from "./command.ts";
import { plain } from "./print.ts";

/** How often the agent is asked how it ended, and for how long at most: it is away for a moment meanwhile. ms */
const askEveryMs = 200;
const outcomeMaxMs = 60_000;

export const reloadCommand: Command = {
  name: "reload",
  usage: "reload [--json]",
  summary:
    "Have the agent read its configuration again; with mistakes the old one goes on, exit code 1",
  async run(args, io) {
    const { values } = parseArgs({ args, options: adminOptions });
    const admin = await connectAdmin(values);
    const { number } = (await admin.post("/reload")) as { number: number };
    const last = await ended(number, admin, values);
    const isApplied = last.outcome === "applied";
    if (values.json) io.out(`${JSON.stringify(last)}\n`);
    else if (isApplied) io.out("The agent runs with the configuration as it is now\n");
    else {
      for (const problem of last.problems) io.err(`${plain(problem)}\n`);
      io.err("The old configuration goes on\n");
    }
    return isApplied ? 0 : 1;
  },
};

async function ended(number: number, admin: AdminClient, flags: AdminFlags): Promise<ReloadJson> {
  const clock = systemClock(() => "unsynced");
  const untilMs = clock.monotonicMs() + outcomeMaxMs;
  let asked = admin;
  for (;;) {
    await clock.sleep(askEveryMs);
    try {
      const { last } = (await asked.get("/reload")) as { last: ReloadJson | null };
      if (last !== null && last.number >= number) return last;
      if (clock.monotonicMs() > untilMs) throw unknownEnd();
    } catch (error) {
      const isAway = error instanceof HoldfastError && error.code === "ADMIN_UNREACHABLE";
      if (!isAway || clock.monotonicMs() > untilMs) throw error;
      // It may listen elsewhere from now on, as the file says.
      if (flags.config !== undefined) asked = await connectAdmin(flags);
    }
  }
}

function unknownEnd(): HoldfastError {
  const seconds = outcomeMaxMs / 1_000;
  return new HoldfastError(
    "ADMIN_REFUSED",
    `The agent has not said within ${seconds} s how it ended`,
  );
}

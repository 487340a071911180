/** `holdfast pause` and `holdfast resume`: a group stands still, or goes on. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName } from "./arguments.ts";
import type { Command } from "./command.ts";
import { plain } from "./print.ts";

const command = (verb: "pause" | "resume", summary: string, said: string): Command => ({
  name: verb,
  usage: `${verb} GROUP [--json]`,
  summary,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: adminOptions,
      allowPositionals: true,
    });
    const group = oneName(positionals, "GROUP");
    const admin = await connectAdmin(values);
    const answer = await admin.post(`/groups/${encodeURIComponent(group)}/${verb}`);
    io.out(values.json ? `${JSON.stringify(answer)}\n` : `Group ${plain(group)} ${said}\n`);
    return 0;
  },
});

export const pauseCommand = command(
  "pause",
  "Let a processor or a sink stand still, over restarts too; its events wait in the journal",
  "stands still until it is resumed",
);
export const resumeCommand = command(
  "resume",
  "Let a group that was paused go on where it stood",
  "goes on",
);

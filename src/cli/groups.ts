/** `holdfast groups`: where processors and sinks stand in their streams. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName, UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { count, plain, table } from "./print.ts";

export interface GroupRow {
  readonly group: string;
  readonly stream: string;
  readonly cursor: number;
  readonly head: number;
  readonly lag: number;
  readonly paused?: boolean;
  /** False: its place is kept, though the configuration does not name it. */
  readonly configured?: boolean;
  /** null: not known yet. */
  readonly perSecond: number | null;
}

export const groupsCommand: Command = {
  name: "groups",
  usage: "groups [drop GROUP] [--json]",
  summary:
    "List processors and sinks: their lag, their cursor and how fast they go; or forget one that is configured no more",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: adminOptions,
      allowPositionals: true,
    });
    const [verb, ...names] = positionals;
    if (verb !== undefined && verb !== "drop")
      throw new UsageError("drop, or nothing, is asked for");
    const admin = await connectAdmin(values);
    if (verb === "drop") {
      const group = oneName(names, "GROUP");
      const answer = await admin.delete(`/groups/${encodeURIComponent(group)}`);
      io.out(values.json ? `${JSON.stringify(answer)}\n` : `Group ${plain(group)} is forgotten\n`);
      return 0;
    }
    const answer = (await admin.get("/groups")) as { groups: GroupRow[] };
    io.out(values.json ? `${JSON.stringify(answer)}\n` : groupTable(answer.groups));
    return 0;
  },
};

export function groupTable(groups: readonly GroupRow[]): string {
  return table(
    [
      { title: "GROUP" },
      { title: "STREAM" },
      { title: "LAG", align: "right" },
      { title: "CURSOR", align: "right" },
      { title: "RATE", align: "right" },
    ],
    groups.map((row) => [row.group, row.stream, count(row.lag), String(row.cursor), rateOf(row)]),
  );
}

function rateOf({ paused, configured, perSecond }: GroupRow): string {
  if (configured === false) return "not configured";
  if (paused === true) return "paused";
  return perSecond === null ? "" : `${count(perSecond)}/s`;
}

/** `holdfast groups`: where processors and sinks stand in their streams. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import type { Command } from "./command.ts";
import { count, table } from "./print.ts";

export interface GroupRow {
  readonly group: string;
  readonly stream: string;
  readonly cursor: number;
  readonly head: number;
  readonly lag: number;
  readonly paused?: boolean;
  /** null: not known yet. */
  readonly perSecond: number | null;
}

export const groupsCommand: Command = {
  name: "groups",
  usage: "groups [--json]",
  summary: "List processors and sinks: their lag, their cursor and how fast they go",
  async run(args, io) {
    const { values } = parseArgs({ args, options: adminOptions });
    const admin = await connectAdmin(values);
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
    groups.map((row) => [
      row.group,
      row.stream,
      count(row.lag),
      String(row.cursor),
      row.paused === true ? "paused" : row.perSecond === null ? "" : `${count(row.perSecond)}/s`,
    ]),
  );
}

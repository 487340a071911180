/** `holdfast streams`: what the journal holds. */
import { parseArgs } from "node:util";
import { formatSize } from "../core/quantity.ts";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import type { Command } from "./command.ts";
import { count, table } from "./print.ts";

interface StreamRow {
  readonly name: string;
  readonly format: string;
  readonly first: number;
  readonly head: number;
  readonly events: number;
  readonly bytes: number;
  readonly deadLetters: number;
}

export const streamsCommand: Command = {
  name: "streams",
  usage: "streams [--json]",
  summary: "List the streams: how many events they hold, and how many dead letters",
  async run(args, io) {
    const { values } = parseArgs({ args, options: adminOptions });
    const admin = await connectAdmin(values);
    const answer = (await admin.get("/streams")) as { streams: StreamRow[] };
    if (values.json) {
      io.out(`${JSON.stringify(answer)}\n`);
      return 0;
    }
    const rows = answer.streams.map((row) => [
      row.name,
      row.format,
      count(row.events),
      row.events === 0 ? "" : `${row.first}–${row.head}`,
      formatSize(row.bytes),
      row.deadLetters === 0 ? "" : count(row.deadLetters),
    ]);
    io.out(
      table(
        [
          { title: "STREAM" },
          { title: "FORMAT" },
          { title: "EVENTS", align: "right" },
          { title: "SEQ", align: "right" },
          { title: "SIZE", align: "right" },
          { title: "DEAD LETTERS", align: "right" },
        ],
        rows,
      ),
    );
    return 0;
  },
};

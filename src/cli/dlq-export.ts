/** `holdfast dlq-export`: a stream's dead letters as NDJSON, whole, for `dlq-import`. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName } from "./arguments.ts";
import type { Command } from "./command.ts";

export const dlqExportCommand: Command = {
  name: "dlq-export",
  usage: "dlq-export STREAM",
  summary: "Write a stream's dead letters as NDJSON, whole; edited, dlq-import takes them back",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: adminOptions,
      allowPositionals: true,
    });
    const stream = oneName(positionals, "STREAM");
    const admin = await connectAdmin(values);
    const path = `/streams/${encodeURIComponent(stream)}/dlq/export`;
    for await (const line of admin.lines(path)) io.out(`${line}\n`);
    return 0;
  },
};

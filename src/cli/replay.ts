/** `holdfast replay`: a group goes back, and on from there. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { plain } from "./print.ts";

export const replayCommand: Command = {
  name: "replay",
  usage: "replay GROUP STREAM --from SEQ|TIME [--again] [--json]",
  summary:
    "Let a processor or a sink go back in a stream; --again: to a far side that has it, under new names",
  async run(args, io) {
    const options = {
      ...adminOptions,
      from: { type: "string" },
      again: { type: "boolean", default: false },
    } as const;
    const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
    const [group, stream, ...more] = positionals;
    if (group === undefined || stream === undefined || more.length > 0)
      throw new UsageError("It takes a GROUP and a STREAM");
    if (values.from === undefined) throw new UsageError("--from is missing");
    const admin = await connectAdmin(values);
    const wish = new URLSearchParams({ stream, from: values.from, again: `${values.again}` });
    const path = `/groups/${encodeURIComponent(group)}/replay?${wish.toString()}`;
    const answer = (await admin.post(path)) as { from: number };
    const said = `Group ${plain(group)} goes on from seq ${answer.from} of ${plain(stream)}\n`;
    io.out(values.json ? `${JSON.stringify(answer)}\n` : said);
    return 0;
  },
};

/**
 * `holdfast dlq-import`: takes the lines of an export, perhaps edited, and sends them where their letters failed, in the
 * letters' place. A line whose letter is gone was sent before, and is passed over: the same file may be given again.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { systemClock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { RedeliveryReport } from "../core/replay.ts";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";
import { tellReplay } from "./dlq-replay.ts";

/** Until a processor has room again, ms. */
const fullPauseMs = 500;

export const dlqImportCommand: Command = {
  name: "dlq-import",
  usage: "dlq-import STREAM FILE [--json]",
  summary: "Send edited dead letters (dlq-export) back to where they failed, in place of the old",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: adminOptions,
      allowPositionals: true,
    });
    const [stream, file, ...more] = positionals;
    if (stream === undefined || file === undefined || more.length > 0)
      throw new UsageError("STREAM and FILE are asked for");
    const admin = await connectAdmin(values);
    const path = `/streams/${encodeURIComponent(stream)}/dlq/import`;
    const sum = { replayed: 0, refused: [] as RedeliveryReport["refused"][number][] };
    // One line a request: a letter may be larger than what a request may hold of several.
    for await (const line of linesOf(file)) {
      for (let isFull = true; isFull;) {
        const report = (await admin.post(path, line)) as RedeliveryReport;
        sum.replayed += report.replayed;
        sum.refused.push(...report.refused);
        ({ isFull } = report);
        if (isFull) await systemClock(() => "unsynced").sleep(fullPauseMs);
      }
    }
    return tellReplay(io, stream, sum, values.json);
  },
};

async function* linesOf(file: string): AsyncIterable<string> {
  try {
    for await (const line of createInterface({ input: createReadStream(file) }))
      if (line.trim() !== "") yield line;
  } catch (cause) {
    throw new UsageError(`Cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
}

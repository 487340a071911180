/** `holdfast replay`: sets a processor or a sink back in a stream, while the agent runs. */
import { parseArgs } from "node:util";
import { systemClock } from "../core/clock.ts";
import type { RewindReport } from "../core/replay.ts";
import { adminOptions, connectAdmin, type AdminClient } from "./admin-client.ts";
import { UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { withProgress } from "./journal-text.ts";
import { count } from "./print.ts";

/** Between two looks at how far it is, ms. */
const lookEveryMs = 300;

export const replayCommand: Command = {
  name: "replay",
  usage: "replay GROUP STREAM --from SEQ|TIME [--state keep|reset] [--again] [--json]",
  summary:
    "Set a processor or a sink back in a stream: what it gave is given again; --again: to a far side that has it, under new names",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: {
        ...adminOptions,
        from: { type: "string" },
        state: { type: "string" },
        again: { type: "boolean", default: false },
      },
      allowPositionals: true,
    });
    const [group, stream, ...more] = positionals;
    if (group === undefined || stream === undefined || more.length > 0)
      throw new UsageError("GROUP and STREAM are asked for");
    if (values.from === undefined) throw new UsageError("--from is missing: a seq or a time");
    const { state } = values;
    if (state !== undefined && state !== "keep" && state !== "reset")
      throw new UsageError(`--state takes keep or reset: found ${state}`);
    const query = new URLSearchParams({
      stream,
      from: values.from,
      ...(state && { state }),
      ...(values.again && { again: "true" }),
    });
    const admin = await connectAdmin(values);
    const path = `/groups/${encodeURIComponent(group)}/replay?${query.toString()}`;
    const result = (await admin.post(path)) as RewindReport;
    if (values.json) io.out(`${JSON.stringify(result)}\n`);
    else io.out(textOf(group, stream, result, state));
    if (io.isTerminal && !values.json) await watch(admin, io, group, stream, result);
    return 0;
  },
};

function textOf(
  group: string,
  stream: string,
  result: RewindReport,
  state: string | undefined,
): string {
  const { from, cursor, isShortened, removedKeys } = result;
  const events = count(cursor - from + 1);
  const note = isShortened ? "; what was before is not kept any more" : "";
  const kept =
    state === "reset"
      ? `It remembers nothing (${count(removedKeys)} keys removed)`
      : "It remembers what it did";
  return `${group} goes back to seq ${from} of ${stream}: ${events} events again${note}\n${
    state === undefined ? "" : `${kept}\n`
  }`;
}

/** Until it is where it was. A person who has seen enough presses Ctrl-C: the agent goes on. */
async function watch(
  admin: AdminClient,
  io: Io,
  group: string,
  stream: string,
  { from, cursor }: RewindReport,
): Promise<void> {
  const clock = systemClock(() => "unsynced");
  await withProgress(io, "replay", async (show) => {
    for (;;) {
      const { groups } = (await admin.get("/groups")) as {
        groups: { group: string; stream: string; cursor: number }[];
      };
      const at = groups.find((row) => row.group === group && row.stream === stream)?.cursor;
      if (at === undefined || at >= cursor) return;
      show((at - from + 1) / (cursor - from + 1));
      await clock.sleep(lookEveryMs);
    }
  });
}

/** `holdfast sync`: deliver now, before the van leaves the yard. */
import { parseArgs } from "node:util";
import { systemClock } from "../core/clock.ts";
import type { SinkJson } from "../host/admin-sinks.ts";
import { adminOptions, connectAdmin, type AdminClient } from "./admin-client.ts";
import { UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { withProgress } from "./journal-text.ts";
import { count, plain } from "./print.ts";

/** How often the agent is asked how far it is, ms. */
const askEveryMs = 300;

export const syncCommand: Command = {
  name: "sync",
  usage: "sync [SINK] [--json]",
  summary:
    "Deliver what waits by now, whatever a sink's hours and its back-off say; exit code 1 when one could not",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: adminOptions,
      allowPositionals: true,
    });
    const [sink, ...rest] = positionals;
    if (rest.length > 0) throw new UsageError("It takes one sink, or none for all");
    const admin = await connectAdmin(values);
    const { sinks } = (await admin.get("/sinks")) as { sinks: SinkJson[] };
    const names = sink === undefined ? sinks.map((one) => one.sink) : [sink];
    const ended = await Promise.all(names.map((name) => sync(admin, name, io)));
    if (values.json) io.out(`${JSON.stringify({ sinks: ended })}\n`);
    else for (const one of ended) io.out(`${sentence(one)}\n`);
    return ended.every(isDone) ? 0 : 1;
  },
};

async function sync(admin: AdminClient, name: string, io: Io): Promise<SinkJson> {
  const clock = systemClock(() => "unsynced");
  const path = `/sinks/${encodeURIComponent(name)}`;
  return withProgress(io, `sync ${plain(name)}`, async (show) => {
    let now = (await admin.post(`${path}/sync`)) as SinkJson;
    const all = now.syncing ?? 0;
    while (now.syncing !== null) {
      show(1 - now.syncing / Math.max(1, all));
      await clock.sleep(askEveryMs);
      now = (await admin.get(path)) as SinkJson;
    }
    return now;
  });
}

function isDone({ waiting, status }: SinkJson): boolean {
  return waiting === 0 || status === "ok";
}

function sentence(one: SinkJson): string {
  const { sink, waiting, detail } = one;
  const since = waiting === 0 ? "" : `; ${count(waiting)} have come since`;
  if (isDone(one)) return `Sink ${plain(sink)} has delivered all that waited${since}`;
  return `Sink ${plain(sink)} could not deliver, ${count(waiting)} events wait: ${plain(detail ?? "the log may tell why")}`;
}

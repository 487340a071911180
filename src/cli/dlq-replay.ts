/**
 * `holdfast dlq-replay`: sends dead letters back to where they failed. Cut off, it is called again: what went back is no
 * letter any more.
 */
import { parseArgs } from "node:util";
import { systemClock } from "../core/clock.ts";
import type { RedeliveryReport } from "../core/replay.ts";
import { adminOptions, connectAdmin, type AdminClient } from "./admin-client.ts";
import { oneName, wholeNumber } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { withProgress } from "./journal-text.ts";
import { count, plain } from "./print.ts";

/** Letters in one request, so that progress shows. */
const atOnce = 200;
/** What one request's query holds of ids. */
const idsAtOnce = 100;
/** Until a processor has room again, ms. */
const fullPauseMs = 500;

export const dlqReplayCommand: Command = {
  name: "dlq-replay",
  usage: "dlq-replay STREAM [--id ID…] [--json]",
  summary: "Send a stream's dead letters back to where they failed, all or those named, once each",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: { ...adminOptions, id: { type: "string", multiple: true, default: [] } },
      allowPositionals: true,
    });
    const stream = oneName(positionals, "STREAM");
    const ids = values.id.map((text) => wholeNumber("--id", text, 1)).toSorted((a, b) => a - b);
    const admin = await connectAdmin(values);
    const total = ids.length > 0 ? await these(admin, stream, ids) : await all(admin, stream, io);
    return tellReplay(io, stream, total, values.json);
  },
};

export interface ReplayTotal {
  readonly replayed: number;
  readonly refused: RedeliveryReport["refused"];
}

/** @returns the exit code: 1 when some were refused */
export function tellReplay(io: Io, stream: string, total: ReplayTotal, isJson: boolean): number {
  const { replayed, refused } = total;
  if (isJson) io.out(`${JSON.stringify({ stream, replayed, refused })}\n`);
  else {
    for (const { id, code, reason } of refused) io.err(`${id}: ${code}: ${plain(reason)}\n`);
    const stay = refused.length > 0 ? `, ${count(refused.length)} stay` : "";
    io.out(`Replayed ${count(replayed)} dead letters of stream ${stream}${stay}\n`);
  }
  return refused.length > 0 ? 1 : 0;
}

/** As many as there are now: those that fail again come behind them, and are not tried twice. */
async function all(admin: AdminClient, stream: string, io: Io): Promise<ReplayTotal> {
  const path = `/streams/${encodeURIComponent(stream)}/dlq`;
  const { total } = (await admin.get(`${path}?limit=1`)) as { total: number };
  return withProgress(io, "dlq-replay", async (show) => {
    const sum = { replayed: 0, refused: [] as RedeliveryReport["refused"][number][] };
    let after = 0;
    for (let done = 0; done < total;) {
      const limit = Math.min(atOnce, total - done);
      const report = (await admin.post(
        `${path}/replay?after=${after}&limit=${limit}`,
      )) as RedeliveryReport;
      sum.replayed += report.replayed;
      sum.refused.push(...report.refused);
      done = sum.replayed + sum.refused.length;
      after = report.last ?? after;
      show(total === 0 ? 1 : done / total);
      if (report.isFull) await systemClock(() => "unsynced").sleep(fullPauseMs);
      else if (report.last === null) break;
    }
    return sum;
  });
}

async function these(
  admin: AdminClient,
  stream: string,
  ids: readonly number[],
): Promise<ReplayTotal> {
  const sum = { replayed: 0, refused: [] as RedeliveryReport["refused"][number][] };
  let left = ids;
  while (left.length > 0) {
    const some = left.slice(0, idsAtOnce);
    const query = some.map((id) => `id=${id}`).join("&");
    const path = `/streams/${encodeURIComponent(stream)}/dlq/replay?${query}`;
    const report = (await admin.post(path)) as RedeliveryReport;
    sum.replayed += report.replayed;
    sum.refused.push(...report.refused);
    const last = report.isFull ? (report.last ?? 0) : (some.at(-1) ?? 0);
    left = left.filter((id) => id > last);
    if (report.isFull) await systemClock(() => "unsynced").sleep(fullPauseMs);
  }
  return sum;
}

/** A running agent's journal, through its admin API: the agent alone has the file. */
import { systemClock } from "../core/clock.ts";
import { HoldfastError, type ErrorCode } from "../core/errors.ts";
import type { JournalJson, WorkJson } from "../host/admin-journal.ts";
import type { CheckResult, CompactResult, Work } from "../journal/journal.ts";
import type { AdminClient } from "./admin-client.ts";
import type { Io } from "./command.ts";
import type { JournalActions, WantedEvents } from "./journal.ts";
import { compactText, damageText, withProgress } from "./journal-text.ts";
import { count } from "./print.ts";

/** How often the agent is asked how far it is, ms. */
const askEveryMs = 300;
/** Of one page of events, what the agent gives at once. */
const pageEvents = 100_000;

export function liveJournal(admin: AdminClient): JournalActions {
  return {
    async check(io, json) {
      const result = (await work(admin, "check", io)) as CheckResult;
      io.out(json ? `${JSON.stringify(result)}\n` : checkText(result));
      return result.damaged.length === 0 ? 0 : 1;
    },
    async compact(io, json) {
      const result = (await work(admin, "compact", io)) as CompactResult;
      io.out(json ? `${JSON.stringify(result)}\n` : compactText(result));
      return 0;
    },
    async export(wanted, write) {
      await exportEvents(admin, wanted, write);
      return 0;
    },
  };
}

/** Begins it and waits for its end. @throws HoldfastError why it failed */
function work(admin: AdminClient, what: Work, io: Io): Promise<WorkJson["result"]> {
  const clock = systemClock(() => "unsynced");
  return withProgress(io, what, async (show) => {
    const { id } = (await admin.post(`/journal/${what}`)) as WorkJson;
    for (;;) {
      const journal = (await admin.get("/journal")) as JournalJson;
      const job = journal[what];
      if (job?.id !== id) {
        throw new HoldfastError(
          "JOURNAL_UNAVAILABLE",
          `The agent was started anew: its ${what} did not come to an end`,
        );
      }
      if (job.error !== null)
        throw new HoldfastError(job.error.code as ErrorCode, job.error.detail);
      if (job.endedAt !== null) return job.result;
      if (journal.work?.what === what) show(journal.work.progress);
      await clock.sleep(askEveryMs);
    }
  });
}

function checkText({ events, chunks, bytes, damaged }: CheckResult): string {
  const read = `Read ${count(events)} events in ${count(chunks)} chunks, ${count(bytes)} bytes\n`;
  const isWhole = damaged.length === 0;
  const verdict = isWhole
    ? "The journal is whole\n"
    : "What is damaged is gone; the rest is kept\n";
  return `${read}${damageText(damaged)}${verdict}`;
}

/** Each stream up to where it ends now, in pages. */
async function exportEvents(
  admin: AdminClient,
  { from, stream }: WantedEvents,
  write: (text: string) => void,
): Promise<void> {
  const { streams } = (await admin.get("/streams")) as {
    streams: { readonly name: string; readonly head: number }[];
  };
  const wanted = streams.filter(({ name }) => stream === undefined || name === stream);
  if (wanted.length === 0) {
    const names = streams.map(({ name }) => name).join(", ");
    throw new HoldfastError(
      "ADMIN_REFUSED",
      `There is no stream ${stream ?? ""}; there is ${names || "none yet"}`,
    );
  }
  for (const { name, head } of wanted) {
    for (let next = from; next <= head;) {
      const path = `/streams/${encodeURIComponent(name)}/events?from=${next}&limit=${pageEvents}`;
      let last: string | undefined;
      for await (const line of admin.lines(path)) {
        write(`${line}\n`);
        last = line;
      }
      if (last === undefined) break;
      next = (JSON.parse(last) as { seq: number }).seq + 1;
    }
  }
}

/**
 * The admin API's routes over the journal's file: its size, and the long work that can be asked of it. That goes on
 * when whoever asked has left: `GET /journal` tells how far it is and how it ended.
 *
 * Bound: one work at a time, and the last of each kind is remembered.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { CheckResult, CompactResult, Work } from "../journal/journal.ts";
import type { AdminView } from "./admin-routes.ts";
import { json, Problem, type Answer } from "./answer.ts";
import type { Route } from "./http.ts";

const works: Readonly<Record<Work, string>> = {
  check: "Reads the journal through against its checksums",
  compact: "Gives the disk back what the journal's file holds and does not use",
};

/** One work, as `GET /journal` and `POST` show it. */
export interface WorkJson {
  /** Counts from 1 with each start of the agent. */
  readonly id: number;
  readonly what: Work;
  readonly startedAt: string;
  /** null: it goes on. */
  readonly endedAt: string | null;
  readonly result: CheckResult | CompactResult | null;
  readonly error: { readonly code: string; readonly detail: string; readonly hint: string } | null;
}

export interface JournalJson {
  readonly usedBytes: number;
  readonly fileBytes: number;
  readonly maxBytes: number;
  readonly full: boolean;
  /** What goes on, asked for or not; `progress` from 0 to 1. */
  readonly work: { readonly what: Work; readonly progress: number } | null;
  /** The last of each that was asked for. */
  readonly check: WorkJson | null;
  readonly compact: WorkJson | null;
}

export function journalRoutes({ context, journal }: AdminView): Route[] {
  const { clock, log } = context;
  const last: Record<Work, WorkJson | null> = { check: null, compact: null };
  let started = 0;

  const settle = (job: WorkJson, outcome: Pick<WorkJson, "result" | "error">): void => {
    last[job.what] = { ...job, ...outcome, endedAt: isoNow() };
    if (outcome.error === null)
      log.info(`The journal's ${job.what} is done`, { ...outcome.result });
    else log.warn(`The journal's ${job.what} failed: ${outcome.error.detail}`);
  };
  const isoNow = (): string => new Date(clock.wallMs()).toISOString();

  const begin = (what: Work): Answer => {
    const going = Object.values(last).find((job) => job !== null && job.endedAt === null);
    if (going) {
      const { message, hint, code } = new HoldfastError(
        "JOURNAL_BUSY",
        `The journal is busy with a ${going.what} since ${going.startedAt}`,
      );
      throw new Problem(409, message, { code, hint });
    }
    const job: WorkJson = {
      id: ++started,
      what,
      startedAt: isoNow(),
      endedAt: null,
      result: null,
      error: null,
    };
    last[what] = job;
    journal[what]().then(
      (result) => settle(job, { result, error: null }),
      (error: unknown) => settle(job, { result: null, error: told(error) }),
    );
    const answer = json(job, 202);
    return { ...answer, headers: { ...answer.headers, location: "/journal" } };
  };

  const post = (what: Work): Route => ({
    method: "POST",
    path: `/journal/${what}`,
    summary: `${works[what]}; answers at once with 202, and GET /journal tells how it goes on`,
    isBegun: true,
    handle: () => begin(what),
  });
  return [
    {
      method: "GET",
      path: "/journal",
      summary: "The journal's file: its bytes, what is being done to it, and how that ended last",
      handle() {
        const { usedBytes, fileBytes, maxBytes, full, work } = journal.status();
        return json({ usedBytes, fileBytes, maxBytes, full, work, ...last } satisfies JournalJson);
      },
    },
    post("check"),
    post("compact"),
  ];
}

function told(error: unknown): NonNullable<WorkJson["error"]> {
  if (error instanceof HoldfastError)
    return { code: error.code, detail: error.message, hint: error.hint };
  return { code: "JOURNAL_UNAVAILABLE", detail: messageOf(error), hint: "The log tells more" };
}

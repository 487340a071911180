/** The admin API's routes over dead letters: shown, sent back to where they failed, edited, removed. */
import type { RedeliveryReport } from "../core/replay.ts";
import { knownStream, wholeNumber } from "./admin-request.ts";
import type { AdminView } from "./admin-routes.ts";
import { json, Problem, type Answer } from "./answer.ts";
import { deadLetterJson, deadLetterLine, editOf } from "./event-json.ts";
import type { Route } from "./http.ts";

/** A page for who asks for no number, and the most that can be asked for at once. */
const lettersStandard = 20;
const lettersMax = 1000;
const idsMax = 1000;
/** Of one import: a payload of 1 MiB as base64, and what else a line holds. */
const importBytesMax = 2 * 1024 * 1024;
/** Of one page of an export. */
const exportPage = 16;

const path = "/streams/{stream}/dlq";

export function deadLetterRoutes(parts: AdminView): Route[] {
  return [
    showRoute(parts),
    exportRoute(parts),
    replayRoute(parts),
    importRoute(parts),
    purgeRoute(parts),
  ];
}

function showRoute(parts: AdminView): Route {
  const { journal } = parts;
  return {
    method: "GET",
    path,
    summary: "A stream's dead letters with their reasons, the oldest first",
    query: {
      limit: `At most so many (${lettersStandard}; up to ${lettersMax})`,
      after: "Those whose id is beyond this one",
    },
    async handle({ query, parameters }) {
      const stream = knownStream(parts, parameters["stream"] ?? "");
      const limit = limitIn(query, lettersStandard);
      const letters = await journal.readDeadLetters(
        stream,
        limit,
        wholeNumber(query, "after", 0, 0),
      );
      const total = totalOf(parts, stream) ?? letters.length;
      return json({ stream, total, deadLetters: letters.map(deadLetterJson) });
    },
  };
}

function exportRoute(parts: AdminView): Route {
  return {
    method: "GET",
    path: `${path}/export`,
    summary: "All dead letters of a stream as NDJSON, whole: what can be edited and imported again",
    handle({ parameters }): Answer {
      const stream = knownStream(parts, parameters["stream"] ?? "");
      return {
        status: 200,
        headers: { "content-type": "application/x-ndjson" },
        async body(write, signal) {
          for (let after = 0; !signal.aborted;) {
            const letters = await parts.journal.readDeadLetters(stream, exportPage, after);
            for (const letter of letters) await write(`${deadLetterLine(letter)}\n`);
            after = letters.at(-1)?.id ?? after;
            if (letters.length < exportPage) return;
          }
        },
      };
    },
  };
}

function replayRoute(parts: AdminView): Route {
  const { redelivery, context } = parts;
  return {
    method: "POST",
    path: `${path}/replay`,
    summary:
      "Sends dead letters back to where they failed, once each: all beyond one, at most so many, or those named",
    query: {
      id: "A dead letter's id; may be there several times; left out: all",
      after: "Those whose id is beyond this one",
      limit: `At most so many (up to ${lettersMax})`,
    },
    async handle({ query, parameters }) {
      const stream = knownStream(parts, parameters["stream"] ?? "");
      const ids = idsIn(query);
      const after = wholeNumber(query, "after", 0, 0);
      const edits = ids.toSorted((a, b) => a - b).map((id) => ({ id }));
      const report =
        ids.length > 0
          ? await redelivery.replayThese(stream, edits)
          : await redelivery.replay(stream, after, limitIn(query, lettersMax));
      tell(context.log, stream, report);
      return json({ stream, ...report });
    },
  };
}

function importRoute(parts: AdminView): Route {
  const { redelivery, context } = parts;
  return {
    method: "POST",
    path: `${path}/import`,
    summary:
      "Takes lines of an export, perhaps edited, and sends them where their letters failed, in the letters' place",
    async handle(request) {
      const stream = knownStream(parts, request.parameters["stream"] ?? "");
      const lines = (await request.body(importBytesMax)).toString("utf8").split("\n");
      const edits = lines.flatMap((line, index) => {
        if (line.trim() === "") return [];
        const edit = editOf(line);
        if (typeof edit === "string") throw new Problem(400, `Line ${index + 1}: ${edit}`);
        return [edit];
      });
      if (edits.length > idsMax) throw new Problem(400, `At most ${idsMax} lines at once`);
      const report = await redelivery.replayThese(stream, edits);
      tell(context.log, stream, report);
      return json({ stream, ...report });
    },
  };
}

function purgeRoute(parts: AdminView): Route {
  return {
    method: "DELETE",
    path,
    summary: "Removes dead letters of a stream: all, or those named",
    query: { id: "A dead letter's id; may be there several times; left out: all" },
    async handle({ query, parameters }) {
      const stream = knownStream(parts, parameters["stream"] ?? "");
      const ids = idsIn(query);
      const purged = await parts.journal.purgeDeadLetters(stream, ...(ids.length > 0 ? [ids] : []));
      parts.context.log.info(`Dead letters of stream ${stream} were removed`, { purged });
      return json({ stream, purged });
    },
  };
}

function tell(
  log: AdminView["context"]["log"],
  stream: string,
  { replayed, refused }: RedeliveryReport,
): void {
  log.info(`Dead letters of stream ${stream} were replayed`, { replayed, refused: refused.length });
}

function totalOf({ journal }: AdminView, stream: string): number | undefined {
  return journal.status().streams.get(stream)?.deadLetters;
}

function limitIn(query: URLSearchParams, standard: number): number {
  const limit = wholeNumber(query, "limit", standard, 1);
  if (limit > lettersMax) throw new Problem(400, `limit is at most ${lettersMax}`);
  return limit;
}

function idsIn(query: URLSearchParams): number[] {
  const ids = query.getAll("id").map(Number);
  if (!ids.every((id) => Number.isSafeInteger(id) && id > 0)) {
    throw new Problem(400, "id is a whole number, as GET shows it");
  }
  if (ids.length > idsMax) throw new Problem(400, `At most ${idsMax} ids at once`);
  return ids;
}

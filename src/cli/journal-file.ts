/** A stopped agent's journal, or a damaged one. Checking and exporting only read it. */
import { statSync } from "node:fs";
import { eventLine } from "../host/event-json.ts";
import { compactFile } from "../journal/compact-file.ts";
import { Inspection } from "../journal/inspection.ts";
import type { Io } from "./command.ts";
import type { JournalActions, WantedEvents } from "./journal.ts";
import { compactText, damageText, withProgress } from "./journal-text.ts";
import { count, plain, table } from "./print.ts";

export function fileJournal(path: string): JournalActions {
  return {
    check: (io, json) => inspecting(path, (inspection) => check(inspection, path, io, json)),
    async compact(io, json) {
      const result = await withProgress(io, "compact", (show) => compactFile(path, show));
      io.out(json ? `${JSON.stringify(result)}\n` : compactText(result));
      return 0;
    },
    export: (wanted, write, io) =>
      inspecting(path, (inspection) => exportEvents(inspection, wanted, write, io)),
  };
}

async function inspecting(path: string, run: (inspection: Inspection) => number): Promise<number> {
  const inspection = new Inspection(path);
  try {
    return run(inspection);
  } finally {
    inspection.close();
  }
}

function check(inspection: Inspection, path: string, io: Io, json: boolean): number {
  const { streams, damaged } = inspection.check();
  const { cursors, deadLetters, broken } = inspection;
  const isWhole = damaged.length === 0 && broken.length === 0;
  const fileBytes = statSync(path).size;
  if (json) {
    const value = { isWhole, fileBytes, streams, cursors, deadLetters, damaged, broken };
    io.out(`${JSON.stringify(value)}\n`);
    return isWhole ? 0 : 1;
  }
  const right = "right" as const;
  io.out(
    table(
      [
        { title: "STREAM" },
        { title: "FIRST", align: right },
        { title: "LAST", align: right },
        { title: "EVENTS", align: right },
      ],
      streams.map((one) => [plain(one.stream), `${one.first}`, `${one.last}`, count(one.events)]),
    ),
  );
  for (const { group, stream, seq } of cursors)
    io.out(`Group ${plain(group)} has passed ${plain(stream)} up to ${seq}\n`);
  io.out(`${count(deadLetters)} dead letters, ${count(fileBytes)} bytes\n`);
  io.out(damageText(damaged));
  if (broken.length > 0) io.out(`Damaged tables: ${broken.join(", ")}\n`);
  io.out(isWhole ? "The journal is whole\n" : "The journal is damaged: the agent salvages it\n");
  return isWhole ? 0 : 1;
}

function exportEvents(
  inspection: Inspection,
  { from, stream }: WantedEvents,
  write: (text: string) => void,
  io: Io,
): number {
  for (const chunk of inspection.chunks()) {
    if (chunk.last < from || (stream !== undefined && chunk.stream !== stream)) continue;
    if (chunk.events === null) {
      io.err(damageText([{ stream: chunk.stream, from: chunk.first, to: chunk.last }]));
      continue;
    }
    const lines = chunk
      .events()
      .filter(({ seq }) => seq >= from)
      .map((event) => `${eventLine(inspection.device, event, "json")}\n`)
      .join("");
    write(lines);
  }
  return 0;
}

/** `holdfast journal check|export`: a stopped agent's journal, or a damaged one. The file is only read. */
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadConfig } from "../config/load.ts";
import { HoldfastError } from "../core/errors.ts";
import { eventLine } from "../host/event-json.ts";
import { Inspection } from "../journal/inspection.ts";
import { UsageError, wholeNumber } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { count, plain, table } from "./print.ts";

export const journalCommand: Command = {
  name: "journal",
  usage: "journal check|export [FILE] [-c CONFIG] [--stream NAME] [--from SEQ] [--output FILE]",
  summary: "Check a stopped agent's journal, or write its events as NDJSON; the file is only read",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: {
        config: { type: "string", short: "c" },
        stream: { type: "string" },
        from: { type: "string", default: "1" },
        output: { type: "string", short: "o" },
      },
      allowPositionals: true,
    });
    const [what, file, ...more] = positionals;
    if (more.length > 0 || (what !== "check" && what !== "export"))
      throw new UsageError("check or export, and one FILE");
    const path = file ?? (await configured(values.config));
    if (statSync(path, { throwIfNoEntry: false }) === undefined)
      throw new HoldfastError("JOURNAL_UNAVAILABLE", `There is no journal ${path}`);
    const inspection = new Inspection(path);
    try {
      if (what === "check") return check(inspection, path, io);
      const from = wholeNumber("--from", values.from, 1);
      exportEvents(inspection, io, { from, stream: values.stream, output: values.output });
      return 0;
    } finally {
      inspection.close();
    }
  },
};

async function configured(config: string | undefined): Promise<string> {
  if (config === undefined) throw new UsageError("FILE or --config is missing");
  const loaded = await loadConfig(config);
  const path = "config" in loaded ? loaded.config.journal.path : undefined;
  if (path === undefined) throw new UsageError(`FILE is missing: ${config} names no journal.path`);
  return path;
}

function check(inspection: Inspection, path: string, io: Io): number {
  const { streams, damaged } = inspection.check();
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
  for (const { group, stream, seq } of inspection.cursors)
    io.out(`Group ${plain(group)} has passed ${plain(stream)} up to ${seq}\n`);
  io.out(`${count(inspection.deadLetters)} dead letters, ${count(statSync(path).size)} bytes\n`);
  for (const { stream, from, to } of damaged)
    io.out(`Damaged: ${plain(stream)} ${from} to ${to}\n`);
  const { broken } = inspection;
  if (broken.length > 0) io.out(`Damaged tables: ${broken.join(", ")}\n`);
  const isWhole = damaged.length === 0 && broken.length === 0;
  io.out(isWhole ? "The journal is whole\n" : "The journal is damaged: the agent salvages it\n");
  return isWhole ? 0 : 1;
}

interface Wanted {
  readonly from: number;
  readonly stream: string | undefined;
  readonly output: string | undefined;
}

function exportEvents(inspection: Inspection, io: Io, { from, stream, output }: Wanted): void {
  const file = output === undefined ? null : openSync(output, "wx");
  try {
    for (const chunk of inspection.chunks()) {
      if (chunk.last < from || (stream !== undefined && chunk.stream !== stream)) continue;
      if (chunk.events === null) {
        io.err(`Damaged: ${plain(chunk.stream)} ${chunk.first} to ${chunk.last}\n`);
        continue;
      }
      const lines = chunk
        .events()
        .filter(({ seq }) => seq >= from)
        .map((event) => `${eventLine(inspection.device, event, "json")}\n`)
        .join("");
      if (file === null) io.out(lines);
      else writeSync(file, lines);
    }
  } finally {
    if (file !== null) closeSync(file);
  }
}

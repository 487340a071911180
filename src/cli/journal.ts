/** `holdfast journal check|compact|export`: of a running agent, or of a stopped one's file. */
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { HoldfastError } from "../core/errors.ts";
import { adminOptions, connectAdmin, type AdminClient } from "./admin-client.ts";
import { UsageError, wholeNumber } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { fileJournal } from "./journal-file.ts";
import { liveJournal } from "./journal-live.ts";

/** What can be done to a journal, wherever it is; each gives back the exit code. */
export interface JournalActions {
  check(io: Io, json: boolean): Promise<number>;
  compact(io: Io, json: boolean): Promise<number>;
  export(wanted: WantedEvents, write: (text: string) => void, io: Io): Promise<number>;
}

export interface WantedEvents {
  readonly from: number;
  readonly stream: string | undefined;
}

const actions = ["check", "compact", "export"] as const;

export const journalCommand: Command = {
  name: "journal",
  usage:
    "journal check|compact|export [FILE] [--stream NAME] [--from SEQ] [--output FILE] [--json]",
  summary:
    "Check the journal, give its unused space back, or write its events as NDJSON: the running agent's, or a stopped one's FILE",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: {
        ...adminOptions,
        stream: { type: "string" },
        from: { type: "string", default: "1" },
        output: { type: "string", short: "o" },
      },
      allowPositionals: true,
    });
    const [what, file, ...more] = positionals;
    const action = actions.find((name) => name === what);
    if (action === undefined || more.length > 0)
      throw new UsageError("check, compact or export, and at most one FILE");
    const from = wholeNumber("--from", values.from, 1);
    const journal = await journalOf(file, values, io);
    if (action !== "export") return journal[action](io, values.json);
    const { stream, output } = values;
    return writing(output, io, (write) => journal.export({ from, stream }, write, io));
  },
};

/** Without a FILE it is the running agent's; where none runs, the one that the configuration names. */
async function journalOf(
  file: string | undefined,
  flags: Parameters<typeof connectAdmin>[0],
  io: Io,
): Promise<JournalActions> {
  if (file !== undefined) return opened(file);
  const admin: AdminClient = await connectAdmin(flags);
  try {
    await admin.get("/journal");
    return liveJournal(admin);
  } catch (error) {
    const isAway = error instanceof HoldfastError && error.code === "ADMIN_UNREACHABLE";
    const path = isAway ? await configured(flags.config) : undefined;
    if (path === undefined) throw error;
    io.err(`No agent runs: looking at its file ${path}\n`);
    return opened(path);
  }
}

function opened(path: string): JournalActions {
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new HoldfastError("JOURNAL_UNAVAILABLE", `There is no journal ${path}`);
  return fileJournal(path);
}

async function configured(config: string | undefined): Promise<string | undefined> {
  if (config === undefined) return undefined;
  // Read only when asked for, like the commands themselves (commands.ts).
  const { loadConfig } = await import("../config/load.ts");
  const loaded = await loadConfig(config);
  return "config" in loaded ? loaded.config.journal.path : undefined;
}

/** Into a new file, or to where the command's words go. */
async function writing(
  output: string | undefined,
  io: Io,
  run: (write: (text: string) => void) => Promise<number>,
): Promise<number> {
  if (output === undefined) return run((text) => io.out(text));
  const file = openSync(output, "wx");
  try {
    return await run((text) => void writeSync(file, text));
  } finally {
    closeSync(file);
  }
}

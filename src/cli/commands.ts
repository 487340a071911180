/**
 * The table of commands. --help is printed from it. A command's file is read only when the command is asked for:
 * `holdfast status` on a small board must not load the whole agent first.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { nearestName } from "../core/nearest.ts";
import { UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import("./run.ts")).runCommand,
  check: async () => (await import("./check.ts")).checkCommand,
  test: async () => (await import("./test.ts")).testCommand,
  init: async () => (await import("./init.ts")).initCommand,
  reload: async () => (await import("./reload.ts")).reloadCommand,
  status: async () => (await import("./status.ts")).statusCommand,
  streams: async () => (await import("./streams.ts")).streamsCommand,
  tail: async () => (await import("./tail.ts")).tailCommand,
  groups: async () => (await import("./groups.ts")).groupsCommand,
  pause: async () => (await import("./pause.ts")).pauseCommand,
  resume: async () => (await import("./pause.ts")).resumeCommand,
  replay: async () => (await import("./replay.ts")).replayCommand,
  sync: async () => (await import("./sync.ts")).syncCommand,
  "dlq-inspect": async () => (await import("./dlq-inspect.ts")).dlqInspectCommand,
  "dlq-replay": async () => (await import("./dlq-replay.ts")).dlqReplayCommand,
  "dlq-export": async () => (await import("./dlq-export.ts")).dlqExportCommand,
  "dlq-import": async () => (await import("./dlq-import.ts")).dlqImportCommand,
  "dlq-purge": async () => (await import("./dlq-purge.ts")).dlqPurgeCommand,
  state: async () => (await import("./state.ts")).stateCommand,
  journal: async () => (await import("./journal.ts")).journalCommand,
};

/** Exit codes of every command: done, failed (one line says why), wrong usage. `run` adds its own. */
const failed = 1;
const wrongUsage = 2;

/** @returns the exit code */
export async function runCommandLine(
  argv: readonly string[],
  io: Io,
  version: string,
): Promise<number> {
  const [name, ...args] = argv;
  if (name === "--version" || name === "-V") {
    io.out(`${version}\n`);
    return 0;
  }
  if (name === undefined) {
    io.err(await helpText(version));
    return wrongUsage;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    io.out(await helpText(version));
    return 0;
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) {
    const nearest = nearestName(name, Object.keys(commands));
    const advice =
      nearest === undefined ? "`holdfast --help` lists them" : `did you mean ${nearest}?`;
    io.err(`holdfast: There is no command ${name}: ${advice}\n`);
    return wrongUsage;
  }
  const command = await load();
  if (args.includes("--help") || args.includes("-h")) {
    io.out(`Usage: holdfast ${command.usage}\n\n${command.summary}.\n${connectionHelp(command)}`);
    return 0;
  }
  try {
    return await command.run(args, io);
  } catch (error) {
    if (error instanceof UsageError || isParseError(error)) {
      io.err(`holdfast ${name}: ${messageOf(error)}\nUsage: holdfast ${command.usage}\n`);
      return wrongUsage;
    }
    if (!(error instanceof HoldfastError)) throw error;
    io.err(`holdfast: ${error.message}\n`);
    return failed;
  }
}

/** All of the table, for what is printed from it: --help, the manual page, the completions. */
export function allCommands(): Promise<Command[]> {
  return Promise.all(Object.values(commands).map((load) => load()));
}

async function helpText(version: string): Promise<string> {
  const loaded = await allCommands();
  const width = Math.max(...loaded.map((command) => command.usage.length));
  const lines = loaded.map((command) => `  ${command.usage.padEnd(width)}  ${command.summary}\n`);
  return `holdfast ${version}: readings into a journal that survives the power cut, and upstream from there

Usage: holdfast COMMAND [OPTION…]

${lines.join("")}
${adminHelp}
Exit codes: 0 done, 1 it failed, 2 wrong usage
`;
}

export const adminHelp = `Options of the commands that talk to a running agent:
  --url URL         http://HOST:PORT or unix:/PATH (else HOLDFAST_ADMIN_URL, else http://127.0.0.1:8001)
  --token TOKEN     the admin token (else HOLDFAST_ADMIN_TOKEN)
  -c, --config FILE finds both in the agent's configuration
  --json            for programs
`;

function connectionHelp(command: Command): string {
  return command.usage.includes("--json") ? `\n${adminHelp}` : "";
}

function isParseError(error: unknown): boolean {
  return (
    error instanceof TypeError &&
    "code" in error &&
    String(error.code).startsWith("ERR_PARSE_ARGS_")
  );
}

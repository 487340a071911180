/** `holdfast run`: the agent itself, until a signal ends it. */
import { parseArgs } from "node:util";
import { openAgent } from "../agent.ts";
import { builtInConfig } from "../config/built-in.ts";
import { formatProblem, loadConfig, type LoadResult } from "../config/load.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { onStopSignals } from "../core/signals.ts";
import { programVersion } from "../host/program.ts";
import type { Command, Io } from "./command.ts";

/** sysexits.h: EX_SOFTWARE, EX_IOERR and EX_CONFIG; the unit does not restart on 78. */
const exitCodes = { mistake: 70, fatal: 74, config: 78 } as const;

export const runCommand: Command = {
  name: "run",
  usage: "run [--config FILE]",
  summary: "Run the agent; without --config a built-in configuration",
  async run(args, io) {
    const { values } = parseArgs({ args, options: { config: { type: "string", short: "c" } } });
    const ended = Promise.withResolvers<number>();
    const stopped = new AbortController();
    using _signals = onStopSignals(() => {
      stopped.abort();
      ended.resolve(0);
    });
    try {
      const loaded = await load(values.config);
      if ("problems" in loaded) {
        for (const problem of loaded.problems) io.err(`${formatProblem(problem)}\n`);
        return exitCodes.config;
      }
      const agent = await openAgent(loaded.config, {
        version: programVersion(),
        signal: stopped.signal,
        ...(values.config !== undefined && { configFile: values.config }),
        onFatal(error) {
          explain(io, error);
          ended.resolve(exitCodes.fatal);
        },
      });
      if (values.config === undefined) io.out(whatNext(agent.listens.http));
      const code = await ended.promise;
      await agent.close();
      return code;
    } catch (error) {
      if (stopped.signal.aborted && error === stopped.signal.reason) return 0;
      explain(io, error);
      if (values.config === undefined && isListenFailure(error)) io.err(howElsewhere);
      if (!(error instanceof HoldfastError)) return exitCodes.mistake;
      return error.kind === "config" ? exitCodes.config : exitCodes.fatal;
    }
  },
};

async function load(path: string | undefined): Promise<LoadResult> {
  return path === undefined ? { config: builtInConfig() } : await loadConfig(path);
}

function explain(io: Io, error: unknown): void {
  io.err(`holdfast: ${messageOf(error)}\n`);
  if (error instanceof HoldfastError) io.err(`  ${error.code}: ${error.hint}\n`);
  else if (error instanceof Error) io.err(`${error.stack ?? ""}\n`);
}

function isListenFailure(error: unknown): boolean {
  return error instanceof HoldfastError && error.code === "LISTEN_FAILED";
}

/** Without a configuration there is no `listen` to change yet. */
const howElsewhere =
  "  `holdfast init` writes a configuration to change, `holdfast run --config agent.yaml` runs it\n";

/** For who runs it without a configuration: three lines to try. */
function whatNext(http: string): string {
  return `
  Send something:  mosquitto_pub -p 1883 -t greenhouse/env -m '{"temperature":21.5}'
  See the health:  http://${http}/
  Read it back:    holdfast tail messages --follow   (from a checkout: node_modules/.bin/node src/main.ts tail messages --follow)

`;
}

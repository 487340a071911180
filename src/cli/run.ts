/**
 * `holdfast run`: the agent itself, until a signal ends it.
 *
 *   opening ──► running ── SIGTERM, SIGINT ──► closing ──► 0
 *      ▲           ├────── the journal is gone ► closing ──► 74, started again by systemd
 *      │           └────── SIGHUP, `holdfast reload` ──► the file is read: with mistakes they are told, nothing changes
 *      └── closing ◄────── without ───┘
 *
 * A reload ends all parts in order and opens them with the new configuration, in the same process: what a part had not
 * finished its cursor still has before it. Where the new one cannot be opened (a port is taken, say) the old one is.
 */
import { parseArgs } from "node:util";
import { openAgent, type Agent } from "../agent.ts";
import { builtInConfig } from "../config/built-in.ts";
import type { Config } from "../config/config.ts";
import { formatProblem, loadConfig, type LoadResult } from "../config/load.ts";
import { systemClock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { onReloadSignal, onStopSignals } from "../core/signals.ts";
import type { ReloadJson } from "../host/admin-reload.ts";
import { programVersion } from "../host/program.ts";
import { openManager, type Manager } from "../host/systemd.ts";
import { startWatchdog } from "../host/watchdog.ts";
import type { Command, Io } from "./command.ts";

/** sysexits.h: EX_SOFTWARE, EX_IOERR and EX_CONFIG; the unit does not restart on 78. */
const exitCodes = { mistake: 70, fatal: 74, config: 78 } as const;

export const runCommand: Command = {
  name: "run",
  usage: "run [--config FILE]",
  summary: "Run the agent; without --config a built-in configuration",
  async run(args, io) {
    const { values } = parseArgs({ args, options: { config: { type: "string", short: "c" } } });
    const run = new Run(io, values.config);
    using _stop = onStopSignals(() => run.stop());
    // On a terminal SIGHUP says that it is gone: then we go too.
    using _reload = io.isTerminal ? null : onReloadSignal(() => run.reload());
    using _watchdog = run.watch();
    try {
      return await run.toTheEnd();
    } catch (error) {
      if (run.wasStopped(error)) return 0;
      explain(io, error);
      if (values.config === undefined && isListenFailure(error)) io.err(howElsewhere);
      if (!(error instanceof HoldfastError)) return exitCodes.mistake;
      return error.kind === "config" ? exitCodes.config : exitCodes.fatal;
    }
  },
};

class Run {
  readonly #io: Io;
  readonly #file: string | undefined;
  readonly #manager: Manager;
  readonly #clock = systemClock(() => "unsynced");
  readonly #stopped = new AbortController();
  readonly #ended = Promise.withResolvers<number>();
  #agent: Agent | undefined;
  /** The next reload that is asked for, and how many were. */
  #asked = Promise.withResolvers<"reload">();
  #reloads = 0;
  #lastReload: ReloadJson | null = null;

  constructor(io: Io, file: string | undefined) {
    this.#io = io;
    this.#file = file;
    this.#manager = openManager({ clock: this.#clock, log: this.#log() });
  }

  stop(): void {
    this.#manager.stopping();
    this.#stopped.abort();
    this.#ended.resolve(0);
  }

  /** @returns its number */
  reload(): number {
    this.#asked.resolve("reload");
    return ++this.#reloads;
  }

  wasStopped(error: unknown): boolean {
    return this.#stopped.signal.aborted && error === this.#stopped.signal.reason;
  }

  watch(): Disposable | null {
    const { watchdogMs } = this.#manager;
    if (watchdogMs === null) return null;
    const watchdog = startWatchdog({
      clock: this.#clock,
      log: this.#log(),
      watchdogMs,
      pulses: () => this.#agent?.pulses ?? [],
      feed: () => this.#manager.feed(),
    });
    return { [Symbol.dispose]: () => watchdog.stop() };
  }

  /** @returns the exit code */
  async toTheEnd(): Promise<number> {
    const loaded = await load(this.#file);
    if ("problems" in loaded) {
      this.#tell(loaded);
      return exitCodes.config;
    }
    let { config } = loaded;
    await this.#open(config);
    if (this.#file === undefined) this.#io.out(whatNext(this.#agent?.listens.http ?? ""));
    for (;;) {
      const next = await Promise.race([this.#ended.promise, this.#asked.promise]);
      if (next !== "reload") {
        await this.#close();
        return next;
      }
      this.#asked = Promise.withResolvers();
      const number = this.#reloads;
      const { config: now, problems } = await this.#exchange(config);
      config = now;
      const outcome = problems.length === 0 ? "applied" : "refused";
      this.#lastReload = { number, outcome, problems };
    }
  }

  /** The configuration that runs afterwards, and why it is the old one. */
  async #exchange(old: Config): Promise<{ config: Config; problems: readonly string[] }> {
    const loaded = await load(this.#file);
    if ("problems" in loaded) {
      this.#tell(loaded);
      this.#io.err("holdfast: The configuration has mistakes: the old one goes on\n");
      return { config: old, problems: loaded.problems.map(formatProblem) };
    }
    this.#manager.reloading();
    await this.#close();
    try {
      await this.#open(loaded.config);
      return { config: loaded.config, problems: [] };
    } catch (error) {
      if (this.wasStopped(error)) throw error;
      explain(this.#io, error);
      this.#io.err("holdfast: The new configuration cannot be run: the old one is opened again\n");
      await this.#open(old);
      return { config: old, problems: [messageOf(error)] };
    }
  }

  async #open(config: Config): Promise<void> {
    using _time = this.#manager.extend();
    this.#agent = await openAgent(config, {
      version: programVersion(),
      signal: this.#stopped.signal,
      ...(this.#file !== undefined && { configFile: this.#file }),
      reload: { ask: () => this.reload(), last: () => this.#lastReload },
      onFatal: (error) => {
        explain(this.#io, error);
        this.#ended.resolve(exitCodes.fatal);
      },
    });
    this.#manager.ready();
  }

  async #close(): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    await agent?.close();
  }

  #tell({ problems }: Extract<LoadResult, { problems: unknown }>): void {
    for (const problem of problems) this.#io.err(`${formatProblem(problem)}\n`);
    const [first] = problems;
    if (first !== undefined) this.#manager.status(`Refused: ${formatProblem(first)}`);
  }

  /** For what watches the agent from outside of it. */
  #log(): Record<"info" | "warn" | "error", (message: string, fields?: object) => void> {
    const write = (message: string, fields: object = {}): void =>
      this.#io.err(`holdfast: ${message} ${JSON.stringify(fields)}\n`);
    return { info: write, warn: write, error: write };
  }
}

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

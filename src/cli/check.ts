/** `holdfast check`: every problem of a configuration, or what it will do. */
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Config } from "../config/config.ts";
import { formatProblem, loadConfig } from "../config/load.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { Secret } from "../core/secret.ts";
import { loadHandler } from "../processor/handler.ts";
import type { Command, Io } from "./command.ts";
import { table } from "./print.ts";

/** Where the service's unit looks. */
const standardFile = "/etc/holdfast/agent.yaml";

export const checkCommand: Command = {
  name: "check",
  usage: "check [--config FILE]",
  summary: `Check a configuration and say what it does; without --config ${standardFile}`,
  async run(args, io) {
    const { values } = parseArgs({ args, options: { config: { type: "string", short: "c" } } });
    const file = values.config ?? standardFile;
    const loaded = await loadConfig(file);
    if ("problems" in loaded) {
      for (const problem of loaded.problems) io.out(`${formatProblem(problem)}\n`);
      return summary(io, file, loaded.problems.length);
    }
    const { config } = loaded;
    const problems = await handlerProblems(config, dirname(resolve(file)));
    for (const problem of problems) io.out(`${file} ${problem}\n`);
    for (const warning of secretWarnings(config)) io.err(`${file} ${warning} (warning)\n`);
    if (problems.length > 0) return summary(io, file, problems.length);
    io.out(explanation(file, config));
    return 0;
  },
};

function summary(io: Io, file: string, count: number): number {
  io.out(`${file} has ${count === 1 ? "1 problem" : `${count} problems`}\n`);
  return 1;
}

async function handlerProblems(config: Config, folder: string): Promise<string[]> {
  const problems: string[] = [];
  for (const [name, { handler }] of Object.entries(config.processors)) {
    if (handler === undefined) continue;
    try {
      await loadHandler(handler, folder);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      problems.push(`processors.${name}.handler: ${error.message}`);
    }
  }
  return problems;
}

/** A secret may be readable for the service and not for whoever checks: no reason to fail. */
function secretWarnings(value: unknown, path = ""): string[] {
  if (value instanceof Secret) {
    try {
      value.reveal();
      return [];
    } catch (error) {
      return [`${path}: ${messageOf(error)}`];
    }
  }
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, member]) =>
    secretWarnings(member, path === "" ? key : `${path}.${key}`),
  );
}

function explanation(file: string, config: Config): string {
  const sources = Object.entries(config.sources).map(([name, { type, stream }]) => [
    "source",
    name,
    type,
    `→ ${stream}`,
  ]);
  const processors = Object.entries(config.processors).map(([name, entry]) => [
    "processor",
    name,
    [...entry.steps.flatMap((step) => Object.keys(step)), entry.handler ?? []].flat().join(", "),
    `${[entry.from].flat().join(", ")} → ${entry.to ?? "what its handler emits"}`,
  ]);
  const sinks = Object.entries(config.sinks).map(([name, { type, from }]) => [
    "sink",
    name,
    type,
    `${from.join(", ")} →`,
  ]);
  const flow = table(
    [{ title: "PART" }, { title: "NAME" }, { title: "KIND" }, { title: "STREAMS" }],
    [...sources, ...processors, ...sinks],
  );
  return `${file} is right

${flow}
Health and metrics  ${config.http.listen}
Admin API           ${config.admin.listen}
`;
}

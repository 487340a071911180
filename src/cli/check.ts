/** `holdfast check`: every problem of a configuration, or what it will do. */
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Config } from "../config/config.ts";
import { stateFolder } from "../config/built-in.ts";
import { entriesOf, valueAt, type Finding } from "../config/finding.ts";
import { formatProblem, loadConfig } from "../config/load.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { formatDuration, formatSize } from "../core/quantity.ts";
import { Secret } from "../core/secret.ts";
import { defaultDeviceId } from "../host/board.ts";
import { tableProblem } from "../processor/enrich.ts";
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
    const folder = dirname(resolve(file));
    const loaded = await loadConfig(file, async (value) => [
      ...(await handlerFindings(value, folder)),
      ...(await tableFindings(value, folder)),
    ]);
    if ("problems" in loaded) {
      for (const problem of loaded.problems) io.out(`${formatProblem(problem)}\n`);
      return summary(io, file, loaded.problems.length);
    }
    const { config } = loaded;
    for (const warning of secretWarnings(config)) io.err(`${file} ${warning} (warning)\n`);
    io.out(explanation(file, config));
    return 0;
  },
};

function summary(io: Io, file: string, count: number): number {
  io.out(`${file} has ${count === 1 ? "1 problem" : `${count} problems`}\n`);
  return 1;
}

/** What only loading the handlers can tell. */
async function handlerFindings(value: unknown, folder: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [name, entry] of entriesOf(value, "processors")) {
    const handler = valueAt(entry, ["handler"]);
    if (typeof handler !== "string" || handler === "") continue;
    try {
      await loadHandler(handler, folder);
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      const path = ["processors", name, "handler"];
      const allowed = "a module whose default export is a function";
      findings.push({ path, at: "value", found: error.message, allowed });
    }
  }
  return findings;
}

/** What only reading the tables of `enrich` can tell. */
async function tableFindings(value: unknown, folder: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [name, entry] of entriesOf(value, "processors")) {
    const steps = valueAt(entry, ["steps"]);
    for (const [index, step] of (Array.isArray(steps) ? steps : []).entries()) {
      const problem = await tableProblem(valueAt(step, ["enrich"]), folder);
      if (problem === null) continue;
      const { option, ...said } = problem;
      const path = ["processors", name, "steps", index, "enrich", option];
      findings.push({ path, at: "value", ...said });
    }
  }
  return findings;
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
  const { device, journal, http, admin } = config;
  const path = journal.path ?? `${stateFolder()}/journal.db`;
  const bounds = `${formatSize(journal.maxBytes)}, ${formatDuration(journal.maxAge)} for replay`;
  const unread = unreadStreams(config);
  return `${file} is right

${flow}
Device              ${device.id ?? `${defaultDeviceId()} (this machine's name)`}
Journal             ${path} (${journal.durability}, at most ${bounds})
${unread.length > 0 ? `Kept for replay     ${unread.join(", ")}: nothing reads them\n` : ""}Health and metrics  ${http.listen}
Admin API           ${admin.listen} (${admin.token === undefined ? "no token: only this machine" : "asks for its token"})
`;
}

/** Often what somebody meant to send on. */
function unreadStreams({ sources, processors, sinks }: Config): string[] {
  const read = new Set(
    [...Object.values(processors), ...Object.values(sinks)].flatMap(({ from }) => from),
  );
  const given = [
    ...Object.values(sources).map(({ stream }) => stream),
    ...Object.values(processors).flatMap(({ to }) => to ?? []),
  ];
  return [...new Set(given)].filter((stream) => !read.has(stream)).sort();
}

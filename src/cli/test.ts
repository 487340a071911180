/** `holdfast test`: what a configuration's processors make of given events, held against what is expected. */
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { readCases, type Case, type CaseFile } from "../config/cases.ts";
import { formatProblem, loadConfig } from "../config/load.ts";
import type { Config } from "../config/config.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import { readTime } from "../core/event-time.ts";
import { isMap } from "../core/path.ts";
import { createRehearsal, headersOf, type Rehearsal } from "../rehearsal.ts";
import { UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { count, painter, plain, type Paint } from "./print.ts";

export const testCommand: Command = {
  name: "test",
  usage: "test FILE…",
  summary:
    "Run cases that sit beside a configuration: events in, what is to come out, on a driven clock",
  async run(args, io) {
    const { positionals } = parseArgs({ args, options: {}, allowPositionals: true });
    if (positionals.length === 0) throw new UsageError("FILE is missing");
    const paint = painter(io);
    let [passed, failed] = [0, 0];
    for (const file of positionals) {
      const cases = await readCases(file);
      const configFile = resolve(dirname(file), cases.config);
      const loaded = await loadConfig(configFile);
      if ("problems" in loaded) {
        for (const problem of loaded.problems) io.err(`${formatProblem(problem)}\n`);
        return 1;
      }
      io.out(`${file}\n`);
      for (const one of cases.cases) {
        const diff = await runCase(one, cases, loaded.config, configFile, io);
        if (diff.length === 0) passed += 1;
        else failed += 1;
        io.out(
          `  ${diff.length === 0 ? paint("green", "ok") : paint("red", "failed")} ${one.name}\n`,
        );
        for (const line of diff) io.out(`    ${coloured(paint, line)}\n`);
      }
    }
    io.out(`${count(passed)} passed, ${count(failed)} failed\n`);
    return failed === 0 ? 0 : 1;
  },
};

function coloured(paint: Paint, line: string): string {
  if (line.startsWith("+")) return paint("green", line);
  return line.startsWith("-") ? paint("red", line) : line;
}

/** What differs, line by line; none: nothing does. */
async function runCase(
  one: Case,
  { start }: CaseFile,
  config: Config,
  configFile: string,
  io: Io,
): Promise<string[]> {
  const rehearsal = await createRehearsal(config, configFile, start, logTo(io));
  try {
    let nowMs = 0;
    const goTo = async (ms: number): Promise<void> => {
      if (ms > nowMs) await rehearsal.advance(ms - nowMs);
      nowMs = Math.max(nowMs, ms);
    };
    for (const { stream, payload, topic, headers, at, wait } of one.given) {
      if (wait !== undefined) await goTo(nowMs + wait);
      if (at !== undefined) await goTo(at);
      if (stream !== undefined) await rehearsal.give(stream, payload, headersOf(topic, headers));
    }
    return [...outputDiff(one, rehearsal), ...letterDiff(one, rehearsal)];
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    return [`${error.code}: ${plain(error.message)}`];
  } finally {
    rehearsal.close();
  }
}

function outputDiff({ expect, partial }: Case, rehearsal: Rehearsal): string[] {
  return Object.entries(expect).flatMap(([stream, expected]) => {
    const found = rehearsal.events(stream).map(({ payload }) => shown(payload));
    return listDiff(stream, expected, found, (wanted, value) => isLike(wanted, value, partial));
  });
}

/** Those that nobody expects fail a case. */
function letterDiff({ deadLetters, partial }: Case, rehearsal: Rehearsal): string[] {
  const refusals = rehearsal.refusals();
  const streams = new Set([...Object.keys(deadLetters), ...refusals.map(({ stream }) => stream)]);
  return [...streams].flatMap((stream) => {
    const found = refusals
      .filter((refusal) => refusal.stream === stream)
      .map(({ code, reason, payload }) => ({ code, reason, payload: shown(payload) }));
    const expected = (deadLetters[stream] ?? []).map((each) => withoutAbsent(each));
    return listDiff(`${stream} (dead letters)`, expected, found, (wanted, letter) => {
      const { code, reason, payload } = wanted as Partial<(typeof found)[number]>;
      return (
        (code === undefined || code === letter.code) &&
        (reason === undefined || letter.reason.includes(reason)) &&
        (payload === undefined || isLike(payload, letter.payload, partial))
      );
    });
  });
}

function withoutAbsent(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined));
}

/** Side by side by their places: what is equal once, what differs with `-` (expected) and `+` (found). */
function listDiff<T>(
  title: string,
  expected: readonly unknown[],
  found: readonly T[],
  isSame: (wanted: unknown, value: T) => boolean,
): string[] {
  let differs = false;
  const lines = Array.from({ length: Math.max(expected.length, found.length) }, (_, index) => {
    const [isWanted, isThere] = [index < expected.length, index < found.length];
    if (isWanted && isThere && isSame(expected[index], found[index] as T))
      return [`  ${line(found[index])}`];
    differs = true;
    return [
      ...(isWanted ? [`- ${line(expected[index])}`] : []),
      ...(isThere ? [`+ ${line(found[index])}`] : []),
    ];
  });
  return differs ? [`${title}: - expected, + found`, ...lines.flat()] : [];
}

function line(value: unknown): string {
  return plain(JSON.stringify(value));
}

/** A payload as JSON, else as text. */
function shown(payload: Uint8Array): unknown {
  const text = Buffer.from(payload).toString("utf8");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** Numbers may differ by rounding; a time in ISO 8601 is also its ms; `isPartial`: maps may hold more. */
function isLike(wanted: unknown, found: unknown, isPartial: boolean): boolean {
  if (typeof found === "number") {
    if (typeof wanted === "string") return readTime(wanted) === found;
    return typeof wanted === "number" && Math.abs(wanted - found) <= 1e-9 * Math.abs(wanted);
  }
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found) || found.length !== wanted.length) return false;
    return wanted.every((each, index) => isLike(each, found[index], isPartial));
  }
  if (!isMap(wanted) || !isMap(found)) return wanted === found;
  const names = Object.keys(isPartial ? wanted : { ...wanted, ...found });
  return names.every((name) => isLike(wanted[name], found[name], isPartial));
}

/** What a handler or step warns of is of use beside a case that fails; the rest is not. */
function logTo(io: Io): Log {
  const tell = (message: string): void => io.err(`  ${plain(message)}\n`);
  return { debug: () => undefined, info: () => undefined, warn: tell, error: tell };
}

/**
 * From a file to a configuration, or to every problem that it has.
 *
 * The text is parsed and `${NAME}` filled in (draft.ts), the declaration judges the value, the parts are checked
 * against each other (judge.ts), and each finding gets its line.
 */
import { createReadStream } from "node:fs";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { Config } from "./config.ts";
import { draftOf, type Draft, type Told } from "./draft.ts";
import { findingsMax, type Finding } from "./finding.ts";
import { isTold, judge, masked } from "./judge.ts";

export interface Problem extends Told {
  readonly file: string;
}

export type LoadResult = { readonly config: Config } | { readonly problems: readonly Problem[] };

/** A thousand sources fit; a file that was named by mistake does not fill a small board's memory. */
const bytesMax = 1024 * 1024;

/**
 * `alsoCheck` is given the value as it stands in the file, wrong or not, and finds what only its caller can judge.
 * @throws HoldfastError CONFIG_UNREADABLE
 */
export async function loadConfig(
  path: string,
  alsoCheck: (value: unknown) => Promise<readonly Finding[]> = () => Promise.resolve([]),
): Promise<LoadResult> {
  const bytes = await readStart(path);
  const whole = { file: path, line: 1, column: 1, path: "" };
  if (bytes.length > bytesMax) return { problems: [{ ...whole, ...tooLarge }] };
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    const found = "found bytes that are not UTF-8";
    const line = undecodableLine(bytes);
    return { problems: [{ ...whole, line, found, allowed: "a text file in UTF-8" }] };
  }
  const draft = draftOf(text);
  return conclude(path, draft, draft.isWhole ? await alsoCheck(draft.value) : []);
}

export function loadConfigText(text: string, file: string): LoadResult {
  if (Buffer.byteLength(text) > bytesMax) {
    return { problems: [{ file, line: 1, column: 1, path: "", ...tooLarge }] };
  }
  return conclude(file, draftOf(text), []);
}

const tooLarge = { found: "found more than 1 MiB", allowed: "at most 1 MiB" };
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The file, or one byte more than it may have. */
async function readStart(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(path, { end: bytesMax })) {
      chunks.push(chunk as Buffer);
    }
  } catch (cause) {
    const why = `Cannot read ${path}: ${messageOf(cause)}`;
    throw new HoldfastError("CONFIG_UNREADABLE", why, { cause });
  }
  return Buffer.concat(chunks);
}

/** Counts from 1. In UTF-8 a line end is never a part of another character. */
function undecodableLine(bytes: Buffer): number {
  const decodes = (part: Buffer): boolean => {
    try {
      decoder.decode(part);
      return true;
    } catch {
      return false;
    }
  };
  let line = 1;
  for (let start = 0; ; line += 1) {
    const end = bytes.indexOf(10, start);
    if (end === -1 || !decodes(bytes.subarray(start, end))) return line;
    start = end + 1;
  }
}

function conclude(file: string, draft: Draft, others: readonly Finding[]): LoadResult {
  const { value, isWhole, broken, place, isHidden } = draft;
  const judged = isWhole ? judge(value, isHidden) : { config: undefined, findings: [] };
  const found = [...judged.findings, ...masked(others, isHidden)];
  const findings = [
    ...draft.findings,
    ...found.filter(({ path }) => !isTold(path, draft.findings)),
  ];
  const config = judged.config;
  if (config !== undefined && findings.length === 0 && broken.length === 0) return { config };
  const told = [...broken, ...findings.slice(0, findingsMax + 1).map(place)];
  const problems = told.map((one): Problem => ({ file, ...one }));
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
  const [next] = problems.splice(findingsMax);
  if (next !== undefined) {
    const { line, column } = next;
    const found = `found more problems than the ${findingsMax} above`;
    problems.push({ file, line, column, path: "", found });
  }
  return { problems };
}

/** `agent.yaml:12:9 sinks.cloud.url: found "ftp://x", allowed: a URL with mqtt:// or mqtts://`. */
export function formatProblem({
  file,
  line,
  column,
  path,
  found,
  allowed,
  nearest,
}: Problem): string {
  const subject = path === "" ? "" : ` ${path}:`;
  const choice = allowed === undefined ? "" : `, allowed: ${allowed}`;
  const advice = nearest === undefined ? "" : ` (did you mean ${nearest}?)`;
  return `${file}:${line}:${column}${subject} ${found}${choice}${advice}`;
}

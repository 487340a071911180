/**
 * From a file to a configuration, or to every problem that it has.
 *
 * The text is parsed, `${NAME}` is filled in, the declaration judges the value, the parts are checked against
 * each other, and each finding gets its line. Where YAML itself is broken, only that is told: what it would read
 * as is anyone's guess.
 */
import { readFile } from "node:fs/promises";
import { validate } from "superstruct";
import {
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
  type YAMLError,
  type YAMLMap,
} from "yaml";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { AnyField } from "../core/field.ts";
import { configOptions, type Config } from "./config.ts";
import { checkBrokers, checkConsistency } from "./consistency.ts";
import { explain, fieldAt, formatPath, type Finding, type Path } from "./finding.ts";
import { fillIn, hasPlace, isOnePlace } from "./substitution.ts";

export interface Problem {
  readonly file: string;
  /** Both count from 1. */
  readonly line: number;
  readonly column: number;
  /** `sinks.cloud.url`; empty for what concerns the file as a whole. */
  readonly path: string;
  readonly found: string;
  readonly allowed?: string;
  readonly nearest?: string;
}

export type LoadResult = { readonly config: Config } | { readonly problems: readonly Problem[] };

/** A thousand sources fit; a file that was named by mistake does not fill a small board's memory. */
const bytesMax = 1024 * 1024;
/** The default of package yaml: aliases may not grow a small file into a large value. */
const aliasesMax = 100;

/** @throws HoldfastError CONFIG_UNREADABLE */
export async function loadConfig(path: string): Promise<LoadResult> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new HoldfastError("CONFIG_UNREADABLE", `Cannot read ${path}: ${messageOf(cause)}`, {
      cause,
    });
  }
  return loadConfigText(text, path);
}

export function loadConfigText(text: string, file: string): LoadResult {
  const whole = { file, line: 1, column: 1, path: "" };
  if (Buffer.byteLength(text) > bytesMax) {
    const found = `found ${Buffer.byteLength(text)} bytes`;
    return { problems: [{ ...whole, found, allowed: "at most 1 MiB" }] };
  }
  const lines = new LineCounter();
  let parsed: Document.Parsed;
  try {
    parsed = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  } catch {
    return { problems: [{ ...whole, found: "found YAML that is nested too deep" }] };
  }
  const at = (offset: number): Pick<Problem, "line" | "column"> => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const syntax = (error: YAMLError): Problem => ({
    ...whole,
    ...at(error.pos[0]),
    found: syntaxWords(error, text),
  });
  // Two keys of one name leave the rest readable. After anything else all that follows is an echo of it.
  const [fatal] = [...parsed.errors, ...parsed.warnings].filter((error) => !isDuplicateKey(error));
  if (fatal !== undefined) return { problems: [syntax(fatal)] };
  const broken = parsed.errors.map(syntax);

  const { findings, hidden } = prepare(parsed);
  const place = (finding: Finding): Problem => ({
    file,
    ...at(offsetOf(parsed, finding)),
    path: formatPath(finding.path),
    found: finding.found,
    ...(finding.allowed !== undefined && { allowed: finding.allowed }),
    ...(finding.nearest !== undefined && { nearest: finding.nearest }),
  });
  let value: unknown;
  try {
    value = withoutEmpty(parsed.toJS({ maxAliasCount: aliasesMax }) ?? {});
  } catch {
    // Never the message of what was thrown: it may quote the file.
    const found = "found YAML that is nested too deep or has too many aliases";
    return { problems: [...broken, ...findings.map(place), { ...whole, found }] };
  }
  const judged = judge(value, (path) => hidden.has(nodeAt(parsed, path)));
  for (const finding of judged.findings) {
    if (!isTold(finding.path, findings)) findings.push(finding);
  }
  if (findings.length === 0 && broken.length === 0) return { config: judged.config as Config };
  const problems = [...broken, ...findings.map(place)];
  return { problems: problems.sort((a, b) => a.line - b.line || a.column - b.column) };
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

function judge(
  value: unknown,
  isHidden: (path: Path) => boolean,
): { config?: Config | undefined; findings: Finding[] } {
  const [error, config] = validate(value, configOptions.struct, { coerce: true });
  const failures = (error?.failures() ?? []).map(({ path, type, refinement, message }) => ({
    path: path as Path,
    isUnknownKey: type === "never",
    ...(refinement === "problem" && { reason: message }),
  }));
  const findings = [
    ...explain(configOptions, value, failures, isHidden),
    ...checkConsistency(value).map((finding) =>
      isHidden(finding.path) ? masked(finding) : finding,
    ),
    ...(config === undefined ? [] : checkBrokers(config)),
  ];
  return { config, findings };
}

/** Whether that place, or one that it is a part of, has been found wrong already: one mistake, one problem. */
function isTold(path: Path, findings: readonly Finding[]): boolean {
  return findings.some((told) => told.path.every((key, index) => key === path[index]));
}

/** What came out of the environment is not shown. */
function masked(finding: Finding): Finding {
  const { nearest: _, ...rest } = finding;
  return { ...rest, found: "found text out of the environment" };
}

/**
 * Fills in `${NAME}`, and finds what YAML allows and a configuration does not: keys that are no text, aliases of
 * nothing. `hidden`: what was filled in, for it may be a secret wherever it stands.
 */
function prepare(document: Document.Parsed): { findings: Finding[]; hidden: Set<unknown> } {
  const findings: Finding[] = [];
  const hidden = new Set<unknown>();
  visit(document, {
    Pair(_, pair, ancestors) {
      if (isScalar(pair.key) && pair.key.value === "toString") {
        // superstruct prints what it refuses, and throws where that has a toString of its own.
        const [path, found] = [
          [...pathTo(ancestors), "toString"],
          "found a name that is not possible",
        ];
        findings.push({ path, at: "parent", found, allowed: "another name" });
        return visit.REMOVE;
      }
      if (isScalar(pair.key)) return undefined;
      const found = "found a key that is no text";
      findings.push({ path: pathTo(ancestors), at: "value", found, allowed: "NAME: value" });
      return visit.REMOVE;
    },
    Alias(_, alias, ancestors) {
      if (alias.resolve(document) !== undefined && !isInside(alias.resolve(document), ancestors)) {
        return undefined;
      }
      const [found, allowed] = ["found an alias of nothing", "text that begins with * in quotes"];
      findings.push({ path: pathTo(ancestors), at: "value", found, allowed });
      return visit.REMOVE;
    },
  });
  // Their kinds decide how what is filled in is read.
  const raw = rawValue(document);
  visit(document, {
    Scalar(key, scalar, ancestors) {
      if (key === "key" || typeof scalar.value !== "string" || !hasPlace(scalar.value)) return;
      const path = pathTo(ancestors, key);
      const filled = fillIn(scalar.value);
      if (!("text" in filled)) {
        findings.push({ path, at: "value", ...filled });
        return;
      }
      const isReread = scalar.type === "PLAIN" && isOnePlace(scalar.value);
      scalar.value = isReread
        ? reread(filled.text, fieldAt(configOptions, raw, path))
        : filled.text;
      hidden.add(scalar);
    },
  });
  return { findings, hidden };
}

/** The value before anything is filled in; only the kinds in it are read. */
function rawValue(document: Document.Parsed): unknown {
  try {
    return document.toJS({ maxAliasCount: aliasesMax });
  } catch {
    return undefined;
  }
}

/** A number or boolean of the environment is one here too, but not where text is asked for (a password 1234). */
function reread(text: string, field: AnyField | undefined): unknown {
  const isText = field?.about.secret === true || field?.about.schema["type"] === "string";
  if (isText) return text;
  const { contents, errors } = parseDocument(text, { prettyErrors: false });
  return errors.length === 0 && isScalar(contents) ? contents.value : text;
}

function isInside(target: Node | undefined, ancestors: readonly unknown[]): boolean {
  return ancestors.includes(target);
}

/** The path of what `visit` shows. */
function pathTo(ancestors: readonly unknown[], key?: unknown): Path {
  const path: (string | number)[] = [];
  ancestors.forEach((ancestor, index) => {
    const child = ancestors[index + 1];
    if (isPair(ancestor) && isScalar(ancestor.key)) path.push(String(ancestor.key.value));
    if (!isSeq(ancestor)) return;
    const position = child === undefined ? key : ancestor.items.indexOf(child);
    if (typeof position === "number") path.push(position);
  });
  return path;
}

/** Nesting of our deepest option is 8; anchors that hold themselves have no end. */
const depthMax = 64;

/** A key with nothing after it is left out: a section whose lines are all commented out takes its defaults. */
function withoutEmpty(value: unknown, depth = 0): unknown {
  if (depth > depthMax) throw new RangeError("The value is nested too deep");
  if (Array.isArray(value)) return value.map((item) => withoutEmpty(item, depth + 1));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(entries.map(([key, member]) => [key, withoutEmpty(member, depth + 1)]));
}

function offsetOf(document: Document.Parsed, { path, at }: Finding): number {
  const own = at === "value" ? rangeOf(nodeAt(document, path)) : undefined;
  // What is not there is looked for at its parent, and so on up to the file itself.
  for (let length = at === "parent" ? path.length - 1 : path.length; length > 0; length -= 1) {
    if (own !== undefined) break;
    const above = path.slice(0, length);
    const offset = rangeOf(keyAt(document, above)) ?? rangeOf(nodeAt(document, above));
    if (offset !== undefined) return offset;
  }
  return own ?? 0;
}

function rangeOf(node: unknown): number | undefined {
  return isNode(node) && node.range ? node.range[0] : undefined;
}

/** The node at `path`, behind aliases. */
function nodeAt(document: Document.Parsed, path: Path): unknown {
  let node: unknown = document.contents;
  for (const key of path) {
    const held = isAlias(node) ? node.resolve(document) : node;
    if (!isMap(held) && !isSeq(held)) return undefined;
    node = isMap(held) ? pairAt(held, key)?.value : held.get(key, true);
  }
  return node;
}

function keyAt(document: Document.Parsed, path: Path): unknown {
  const node = nodeAt(document, path.slice(0, -1));
  const map = isAlias(node) ? node.resolve(document) : node;
  if (!isMap(map)) return undefined;
  return pairAt(map, path.at(-1))?.key;
}

/** Of two keys of one name the second is the one whose value counts. */
function pairAt(map: YAMLMap, name: string | number | undefined): Pair | undefined {
  return map.items.findLast(({ key }) => isScalar(key) && String(key.value) === name);
}

function isDuplicateKey({ code }: YAMLError): boolean {
  return code === "DUPLICATE_KEY";
}

/** In our words, since those of the package may quote the file: `password: !x` is a tag to YAML. */
function syntaxWords(error: YAMLError, text: string): string {
  if (isDuplicateKey(error)) {
    const key = /^["']?([\w.-]{1,64})/.exec(text.slice(error.pos[0]))?.[1];
    return `found the key ${key ?? ""} a second time, allowed: each key once`;
  }
  const words: Partial<Record<YAMLError["code"], string>> = {
    BAD_SCALAR_START: "found a value that begins with @ or `, allowed: such text in quotes",
    BAD_DQ_ESCAPE: 'found an unknown escape in "…", allowed: such text in single quotes',
    BLOCK_AS_IMPLICIT_KEY: 'found a second colon in the line, allowed: text with ": " in quotes',
    MISSING_CHAR: "found no end of what was begun: a quote, ], } or colon is missing",
    MULTIPLE_DOCS: "found a second document, allowed: one without --- lines",
    TAB_AS_INDENT: "found a tab, allowed: spaces for indentation",
    TAG_RESOLVE_FAILED: "found an unknown tag, allowed: text that begins with ! in quotes",
    MULTILINE_IMPLICIT_KEY: "found a key without a colon",
    BAD_INDENT: "found an indentation that fits nothing above it",
    UNEXPECTED_TOKEN:
      'found what does not belong here, allowed: text with { } [ ] , or ": " in quotes',
    RESOURCE_EXHAUSTION: "found YAML that is nested too deep",
  };
  return words[error.code] ?? "found no valid YAML";
}

/**
 * The text of a configuration as a value, with `${NAME}` filled in, and the line of each place in it.
 *
 * Where YAML itself is broken, only that is told: what it would read as is anyone's guess.
 */
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
  type Pair,
  type Scalar,
  type YAMLMap,
} from "yaml";
import type { AnyField } from "../core/field.ts";
import { fillBlanks } from "./blank.ts";
import { configOptions } from "./config.ts";
import { fieldAt, findingsMax, formatPath, type Finding, type Path } from "./finding.ts";
import { fillIn, hasPlace, isOnePlace } from "./substitution.ts";
import { syntaxWords } from "./syntax.ts";

/** The default of package yaml: aliases may not grow a small file into a large value. */
const aliasesMax = 100;

/** What is wrong, and where; both count from 1. */
export interface Told {
  readonly line: number;
  readonly column: number;
  /** `sinks.cloud.url`; empty for what concerns the file as a whole. */
  readonly path: string;
  readonly found: string;
  readonly allowed?: string;
  readonly nearest?: string;
}

/** What a file says, before it is judged. */
export interface Draft {
  readonly value: unknown;
  /** False: no value could be made of it, and its problems are all that there is to say. */
  readonly isWhole: boolean;
  /** Of the text itself: broken YAML, a key that is there twice. */
  readonly broken: readonly Told[];
  readonly findings: readonly Finding[];
  readonly place: (finding: Finding) => Told;
  readonly isHidden: (path: Path) => boolean;
}

export function draftOf(text: string): Draft {
  const whole = { line: 1, column: 1, path: "" };
  const lines = new LineCounter();
  const at = (offset: number): Pick<Told, "line" | "column"> => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const given = (...broken: Told[]): Draft => ({
    value: undefined,
    isWhole: false,
    broken,
    findings: [],
    place: () => ({ ...whole, found: "" }),
    isHidden: () => true,
  });
  let parsed: Document.Parsed;
  try {
    // uniqueKeys compares each key of a map with all before it: 21 s for 60,000. They are looked at in prepare().
    const options = { lineCounter: lines, prettyErrors: false, uniqueKeys: false };
    parsed = parseDocument(text, options);
  } catch {
    return given({ ...whole, found: "found YAML that is nested too deep" });
  }
  // After the first error all that follows is an echo of it.
  const [fatal] = [...parsed.errors, ...parsed.warnings];
  if (fatal !== undefined) {
    return given({ ...whole, ...at(fatal.pos[0]), found: syntaxWords(fatal.code) });
  }
  const { findings, repeated, hidden } = prepare(parsed);
  const place = (finding: Finding): Told => ({
    ...at(offsetOf(parsed, finding)),
    path: formatPath(finding.path),
    found: finding.found,
    ...(finding.allowed !== undefined && { allowed: finding.allowed }),
    ...(finding.nearest !== undefined && { nearest: finding.nearest }),
  });
  const broken = repeated.map(place);
  const isHidden = (path: Path): boolean => hidden.has(nodeAt(parsed, path));
  try {
    const value = fillBlanks(parsed.toJS({ maxAliasCount: aliasesMax }), configOptions);
    return { value, isWhole: true, broken, findings, place, isHidden };
  } catch {
    // Never the message of what was thrown: it may quote the file.
    const found = "found YAML that is nested too deep or has too many aliases";
    return given(...broken, ...findings.map(place), { ...whole, found });
  }
}

/**
 * Fills in `${NAME}`, and finds what YAML allows and a configuration does not: keys that are no text or are there
 * twice, aliases of nothing. `hidden`: what was filled in, for it may be a secret wherever it stands.
 */
function prepare(document: Document.Parsed): {
  findings: Finding[];
  repeated: Finding[];
  hidden: ReadonlySet<unknown>;
} {
  const hidden = new Set<unknown>();
  const findings: Finding[] = [];
  const repeated: Finding[] = [];
  const filled: { scalar: Scalar; path: Path }[] = [];
  visit(document, {
    Map(key, map, ancestors) {
      for (const name of repeatedKeys(map)) {
        const path = [...pathTo(ancestors, key), name];
        repeated.push({ path, at: "key", found: "found a second time", allowed: "each key once" });
      }
    },
    Pair(_, pair, ancestors) {
      if (isScalar(pair.key) && pair.key.value === "toString") {
        // superstruct prints what it refuses, and throws where that has a toString of its own.
        const path = [...pathTo(ancestors), "toString"];
        const found = "found a name that is not possible";
        findings.push({ path, at: "parent", found, allowed: "another name" });
        return visit.REMOVE;
      }
      if (isScalar(pair.key)) return undefined;
      const found = "found a key that is no text";
      findings.push({ path: pathTo(ancestors), at: "value", found, allowed: "NAME: value" });
      return visit.REMOVE;
    },
    Alias(_, alias, ancestors) {
      const target = alias.resolve(document);
      if (target !== undefined && !ancestors.includes(target)) return undefined;
      const [found, allowed] = ["found an alias of nothing", "text that begins with * in quotes"];
      findings.push({ path: pathTo(ancestors), at: "value", found, allowed });
      return visit.REMOVE;
    },
    Scalar(key, scalar, ancestors) {
      if (findings.length > findingsMax) return visit.BREAK;
      if (key === "key" || typeof scalar.value !== "string" || !hasPlace(scalar.value)) {
        return undefined;
      }
      const path = pathTo(ancestors, key);
      const result = fillIn(scalar.value);
      if (!("text" in result)) {
        findings.push({ path, at: "value", ...result });
        return undefined;
      }
      const isReread = scalar.type === "PLAIN" && isOnePlace(scalar.value);
      scalar.value = result.text;
      if (isReread) filled.push({ scalar, path });
      hidden.add(scalar);
      return undefined;
    },
  });
  // By now each `type` is there, which tells what is asked for beside it.
  const value = filled.length === 0 ? undefined : rawValue(document);
  for (const { scalar, path } of filled) {
    scalar.value = reread(String(scalar.value), fieldAt(configOptions, value, path));
  }
  return { findings, repeated: repeated.slice(0, findingsMax + 1), hidden };
}

function repeatedKeys(map: YAMLMap): Set<string> {
  const [met, repeated] = [new Set<string>(), new Set<string>()];
  for (const { key } of map.items) {
    if (!isScalar(key)) continue;
    const name = String(key.value);
    if (met.has(name)) repeated.add(name);
    met.add(name);
  }
  return repeated;
}

/** Only the kinds in it are read. */
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

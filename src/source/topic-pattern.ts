/**
 * Topics as the configuration writes them: an MQTT topic filter in which `{name}` stands for one whole level and
 * names what it matched. `+` and `#` are as in MQTT.
 */
import type { Headers } from "../core/event.ts";
import { text } from "../core/field.ts";

/** What matched a topic: its names and the levels that they stand for. */
export type TopicMatch = Readonly<Record<string, string>>;

export interface TopicPattern {
  /** What is asked of the broker: `{name}` has become `+`. */
  readonly filter: string;
  readonly names: readonly string[];
  /** The named levels of a topic that fits (none: an empty object); null when it does not. */
  match(topic: string): TopicMatch | null;
}

/**
 * What a pattern looks like, as one expression, since editors get it too (the configuration's JSON Schema):
 * - [MQTT-4.7.3-1..3] not empty, no NUL, at most 65,535 bytes of UTF-8: 16,383 characters always fit;
 * - each name once; `topic` and `dup` are headers of their own and would be overwritten;
 * - `$share/GROUP/` is followed by a filter;
 * - [MQTT-4.7.1-1], [MQTT-4.7.1-2] a wildcard or a name is a whole level, and `#` is the last one.
 */
const topicPatternExpression = new RegExp(
  [
    String.raw`^(?=.{1,16383}$)`,
    String.raw`(?!.*\{(?:topic|dup)\})(?!.*\{([^}]*)\}.*\{\1\})`,
    String.raw`(?:\$share\/[^+#{}/\0]+\/(?=.)|(?!\$share(?:\/|$)))`,
    String.raw`(?:(?:LEVEL\/)*(?:LEVEL|#))$`,
  ]
    .join("")
    .replaceAll("LEVEL", String.raw`(?:\+|\{[A-Za-z][A-Za-z0-9_-]*\}|[^+#{}/\0]*)`),
  "s",
);

export function isTopicPattern(text: unknown): text is string {
  return typeof text === "string" && topicPatternExpression.test(text);
}

/** One topic pattern as an option. */
export const topicPattern = text({
  doc: "A topic; `{name}` matches one level and becomes a field, `+` and `#` are as in MQTT",
  pattern: topicPatternExpression,
  allowed:
    "a topic such as greenhouse/{device}/env; {name}, + and # stand for whole levels, # for the last",
  example: "greenhouse/{device}/env",
});

const namePattern = /^\{(.+)\}$/;

/** `pattern` has passed `isTopicPattern`. */
export function parseTopicPattern(pattern: string): TopicPattern {
  const { share, levels } = split(pattern);
  const nameAt = levels.map((level) => namePattern.exec(level)?.[1]);
  const filters = levels.map((level, index) => (nameAt[index] === undefined ? level : "+"));
  const names = nameAt.filter((name) => name !== undefined);
  return {
    filter: (share === null ? "" : `$share/${share}/`) + filters.join("/"),
    names: Object.freeze(names),
    match: (topic) => match(filters, nameAt, topic),
  };
}

/** MQTT 5, 4.8.2: in `$share/GROUP/FILTER` topics are matched by FILTER alone. */
function split(pattern: string): { share: string | null; levels: string[] } {
  const levels = pattern.split("/");
  if (levels[0] !== "$share") return { share: null, levels };
  return { share: levels[1] ?? "", levels: levels.slice(2) };
}

function match(
  filters: readonly string[],
  nameAt: readonly (string | undefined)[],
  topic: string,
): TopicMatch | null {
  const levels = topic.split("/");
  const first = filters[0];
  // [MQTT-4.7.2-1]: a leading wildcard does not match a topic that begins with `$`.
  if ((first === "+" || first === "#") && topic.startsWith("$")) return null;
  const found: Record<string, string> = {};
  for (let index = 0; index < filters.length; index++) {
    const filter = filters[index];
    // 4.7.1.2: `a/#` matches `a` too.
    if (filter === "#") return found;
    const level = levels[index];
    if (level === undefined || (filter !== "+" && filter !== level)) return null;
    const name = nameAt[index];
    if (name !== undefined) found[name] = level;
  }
  return levels.length === filters.length ? found : null;
}

/** What the events of one topic share. */
export interface TopicHeader {
  /** `topic`, and what its levels are named. Frozen. */
  readonly headers: Headers;
  /** The names in `headers` that come from the pattern. */
  readonly fields: readonly string[];
}

/**
 * 4,096 topics are more than one device's sensors have; at about 1 KiB each for the text and the object they
 * stay near 4 MiB. Kept in `remember`.
 */
export const cachedTopicsMax = 4096;
/** Longer topics (up to 64 KiB are allowed) are matched anew each time, so that the cache is bounded in bytes. */
const cachedTopicLengthMax = 256;

/**
 * Topic to headers, so that a million events of one topic share one frozen object.
 *
 * Two generations instead of a list in order of use: a hit in the young one costs one look-up and no write. When
 * the young one is full it becomes the old one, and what was not asked for since is let go.
 */
export class TopicHeaders {
  readonly #patterns: readonly TopicPattern[];
  #young = new Map<string, TopicHeader | null>();
  #old = new Map<string, TopicHeader | null>();

  constructor(patterns: readonly TopicPattern[]) {
    this.#patterns = patterns;
  }

  /** Topics remembered, those that match nothing too. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** By the first pattern that matches; null when none does. */
  of(topic: string): TopicHeader | null {
    const known = this.#young.get(topic);
    if (known !== undefined) return known;
    let header = this.#old.get(topic);
    if (header === undefined) header = this.#find(topic);
    else this.#old.delete(topic);
    if (topic.length <= cachedTopicLengthMax) this.#remember(topic, header);
    return header;
  }

  #remember(topic: string, header: TopicHeader | null): void {
    if (this.#young.size >= cachedTopicsMax / 2) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(topic, header);
  }

  #find(topic: string): TopicHeader | null {
    for (const pattern of this.#patterns) {
      const found = pattern.match(topic);
      if (found !== null) {
        return { headers: Object.freeze({ topic, ...found }), fields: pattern.names };
      }
    }
    return null;
  }
}

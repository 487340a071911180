/**
 * Topics as the configuration writes them: an MQTT topic filter in which `{name}` stands for one whole level and
 * names what it matched. `+` and `#` are as in MQTT.
 */
import type { Headers } from "../core/event.ts";

/** What matched a topic: its names and the levels that they stand for. */
export type TopicMatch = Readonly<Record<string, string>>;

export interface TopicPattern {
  /** What is asked of the broker: `{name}` has become `+`. */
  readonly filter: string;
  readonly names: readonly string[];
  /** The named levels of a topic that fits (none: an empty object); null when it does not. */
  match(topic: string): TopicMatch | null;
}

/** `topic` and `dup` are headers of their own and would be overwritten. */
const reservedNames = new Set(["topic", "dup"]);
const namePattern = /^\{([A-Za-z][A-Za-z0-9_-]*)\}$/;
/** [MQTT-4.7.3-3]: a topic filter has at most this many bytes of UTF-8. */
const filterBytesMax = 65_535;

/** For the validation of a configuration. */
export function isTopicPattern(text: unknown): text is string {
  if (typeof text !== "string") return false;
  // [MQTT-4.7.3-1], [MQTT-4.7.3-2]: at least one character, none of them NUL.
  if (text === "" || text.includes("\0") || Buffer.byteLength(text) > filterBytesMax) return false;
  const { share, levels } = split(text);
  if (share !== null && (share === "" || /[+#{}]/.test(share))) return false;
  if (levels.length === 0 || (share !== null && levels.join("/") === "")) return false;
  const names = new Set<string>();
  return levels.every((level, index) => {
    // [MQTT-4.7.1-1]: `#` is the last level, alone in it.
    if (level === "#") return index === levels.length - 1;
    // [MQTT-4.7.1-2]: `+` is a whole level.
    if (level === "+") return true;
    const name = namePattern.exec(level)?.[1];
    if (name === undefined) return !/[+#{}]/.test(level);
    const isNew = !names.has(name) && !reservedNames.has(name);
    names.add(name);
    return isNew;
  });
}

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

/**
 * What no single option can be blamed for: parts that do not fit each other.
 *
 * It reads the file's values as they stand, wrong ones included, so that these problems are listed beside all
 * others; what the declaration already calls wrong is passed over in silence.
 */
import { nearestName } from "../core/nearest.ts";
import { metricsStream } from "../core/series.ts";
import { checkAddresses } from "./addresses.ts";
import { checkClasses } from "./classes.ts";
import { configOptions } from "./config.ts";
import {
  entriesOf,
  findingsMax,
  isMap,
  shown,
  valueAt,
  type Finding,
  type Path,
} from "./finding.ts";
import { checkLoops } from "./loops.ts";

/** The stream in which gaps are told upstream (invariant 5); only the journal writes it. */
const gapsStream = "_gaps";
const ownStreams: readonly string[] = [gapsStream, metricsStream];
const streamName = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;

export function checkConsistency(value: unknown): Finding[] {
  if (!isMap(value)) return [];
  return [
    ...checkSources(value),
    ...checkGroupNames(value),
    ...checkTargets(value),
    ...checkIdleProcessors(value),
    ...checkLoops(value),
    ...checkOrigins(value),
    ...checkFormats(value),
    ...checkColumns(value),
    ...checkPlane(value),
    ...checkClasses(value),
    ...checkAddresses(value),
  ];
}

function checkSources(value: unknown): Finding[] {
  const sources = valueAt(value, ["sources"]);
  const isEmpty = sources === undefined || (isMap(sources) && Object.keys(sources).length === 0);
  if (!isEmpty) return [];
  // A misspelt `sources` has been told.
  const known = Object.keys(configOptions.about.fields ?? {});
  const isSlip = (key: string): boolean =>
    !known.includes(key) && nearestName(key, known) === "sources";
  if (isMap(value) && Object.keys(value).some(isSlip)) return [];
  return [
    { path: ["sources"], at: "key", found: "missing", allowed: "a map with at least one source" },
  ];
}

/** Processors and sinks are groups of the journal: one name, one cursor. */
function checkGroupNames(value: unknown): Finding[] {
  const processors = new Set(entriesOf(value, "processors").map(([name]) => name));
  return entriesOf(value, "sinks")
    .filter(([name]) => processors.has(name))
    .map(([name]) => ({
      path: ["sinks", name],
      at: "key",
      found: "found the name of a processor",
      allowed: "a name that no processor has",
    }));
}

function checkTargets(value: unknown): Finding[] {
  const allowed = "a name of letters, digits, _ . and -, at most 64";
  const others = "any other stream: the agent itself writes this one";
  const declared = valueAt(value, ["streams", gapsStream]);
  const own = "found the agent's own stream";
  return [
    ...targetsOf(value)
      .filter(([, stream]) => ownStreams.includes(stream) || !streamName.test(stream))
      .map(([path, stream]): Finding => {
        const found = `found ${shown(stream)}`;
        return {
          path,
          at: "value",
          found,
          allowed: ownStreams.includes(stream) ? others : allowed,
        };
      }),
    ...(declared === undefined
      ? []
      : [
          {
            path: ["streams", gapsStream],
            at: "key",
            found: own,
            allowed: "another name",
          } as const,
        ]),
  ];
}

/** Without a handler all that a processor gives goes to `to`. */
function checkIdleProcessors(value: unknown): Finding[] {
  return entriesOf(value, "processors")
    .filter(([, entry]) => tellsTarget(entry) && valueAt(entry, ["to"]) === undefined)
    .filter(([, entry]) => valueAt(entry, ["handler"]) === undefined)
    .map(([name]) => ({
      path: ["processors", name, "to"],
      at: "parent",
      found: "missing",
      allowed: "a stream; without one there must be a handler that emits",
    }));
}

/** Whether it is known where a processor's events go: a key that is not known may be a misspelt `to`. */
function tellsTarget(processor: unknown): boolean {
  const to = valueAt(processor, ["to"]);
  if (to !== undefined) return typeof to === "string";
  const { fields = {} } = configOptions.about.fields?.["processors"]?.about.each?.about ?? {};
  return isMap(processor) && Object.keys(processor).every((key) => Object.hasOwn(fields, key));
}

/** A stream to read from must come from somewhere, and is read once. */
function checkOrigins(value: unknown): Finding[] {
  const isWhole = areTargetsWhole(value);
  const streams = new Set([
    gapsStream,
    // A remote-write sink makes the agent sample its metrics.
    ...(entriesOf(value, "sinks").some(([, sink]) => valueAt(sink, ["type"]) === "remote-write")
      ? [metricsStream]
      : []),
    ...entriesOf(value, "streams").map(([name]) => name),
    ...targetsOf(value).map(([, stream]) => stream),
    ...lateStreamsOf(value),
  ]);
  const findings: Finding[] = [];
  for (const room of ["processors", "sinks"] as const) {
    for (const [name, entry] of entriesOf(value, room)) {
      const met = new Set<string>();
      for (const [path, stream] of originsOf(room, name, entry)) {
        if (findings.length > findingsMax) return findings;
        if (met.has(stream)) {
          const found = `found ${shown(stream)} a second time`;
          findings.push({ path, at: "value", found, allowed: "each stream once" });
        } else if (isWhole && !streams.has(stream)) {
          findings.push(unknownStream(path, stream, [...streams]));
        }
        met.add(stream);
      }
    }
  }
  return findings;
}

/** As many names as fit in a few lines of a terminal. */
const namesMax = 20;
/** Looking for the nearest among more takes longer than it helps. */
const nearestAmongMax = 1000;

function unknownStream(path: Path, stream: string, streams: readonly string[]): Finding {
  const nearest = streams.length > nearestAmongMax ? undefined : nearestName(stream, streams);
  const first = streams
    .slice(0, namesMax)
    .map((name) => shown(name).slice(1, -1))
    .join(", ");
  const rest = streams.length - namesMax;
  return {
    path,
    at: "value",
    found: `found ${shown(stream)}, which no source, processor or entry of streams gives`,
    allowed: rest > 0 ? `${first} and ${rest} more` : first,
    ...(nearest !== undefined && { nearest }),
  };
}

/** Whether every source and processor tells where its events go: else any stream may be theirs. */
function areTargetsWhole(value: unknown): boolean {
  const known = Object.keys(configOptions.about.fields ?? {});
  const hasStrangers = isMap(value) && Object.keys(value).some((key) => !known.includes(key));
  const sources = entriesOf(value, "sources");
  return (
    !hasStrangers &&
    sources.length > 0 &&
    sources.every(([, source]) => typeof valueAt(source, ["stream"]) === "string") &&
    entriesOf(value, "processors").every(([, processor]) => tellsTarget(processor))
  );
}

/** Only JSON has fields; elsewhere these would be passed over without a word. */
function checkFormats(value: unknown): Finding[] {
  return entriesOf(value, "streams").flatMap(([name, stream]) => {
    const format = valueAt(stream, ["format"]);
    if (format !== "text" && format !== "bytes") return [];
    return ["schema", "time", "key"].flatMap((option): Finding[] => {
      const given = valueAt(stream, [option]);
      const isKey = option === "key";
      if (given === undefined || (isKey && given === "topic")) return [];
      const found = `found beside format ${shown(format)}`;
      const allowed = isKey ? "topic, or with format json a path" : "with format json";
      return [{ path: ["streams", name, option], at: "key", found, allowed }];
    });
  });
}

/** NDJSON has no columns; they would be passed over without a word. */
function checkColumns(value: unknown): Finding[] {
  return entriesOf(value, "sinks").flatMap(([name, sink]): Finding[] => {
    const [columns, format] = [valueAt(sink, ["columns"]), valueAt(sink, ["format"])];
    const isFile = valueAt(sink, ["type"]) === "file";
    const isEmpty = !isMap(columns) || Object.keys(columns).length === 0;
    if (!isFile || isEmpty || format === "csv") return [];
    const found = `found beside format ${shown(format ?? "ndjson")}`;
    return [{ path: ["sinks", name, "columns"], at: "key", found, allowed: "with format csv" }];
  });
}

/** What is said of a server that is not asked for would be passed over without a word. */
function checkPlane(value: unknown): Finding[] {
  const given = valueAt(value, ["plane", "valkey"]);
  if (valueAt(value, ["plane", "kind"]) !== "memory" || !isMap(given)) return [];
  return Object.keys(given).map((option) => ({
    path: ["plane", "valkey", option],
    at: "key",
    found: "found beside kind memory",
    allowed: "with kind auto or valkey",
  }));
}

/** Where events are put. */
function targetsOf(value: unknown): (readonly [Path, string])[] {
  const all = [
    ...entriesOf(value, "sources").map(([name, source]) => ["sources", name, "stream", source]),
    ...entriesOf(value, "processors").map(([name, entry]) => ["processors", name, "to", entry]),
  ] as [string, string, string, unknown][];
  return all.flatMap(([room, name, key, entry]) => {
    const stream = valueAt(entry, [key]);
    return typeof stream === "string" ? [[[room, name, key], stream] as const] : [];
  });
}

/** Where windows put what comes too late for them. */
function lateStreamsOf(value: unknown): string[] {
  return entriesOf(value, "processors").flatMap(([name, entry]) => {
    const steps = valueAt(entry, ["steps"]);
    const hasWindow =
      Array.isArray(steps) && steps.some((step) => valueAt(step, ["window"]) !== undefined);
    if (!hasWindow) return [];
    return originsOf("processors", name, entry).map(([, stream]) => `${stream}-late`);
  });
}

/** Where events are read. */
function originsOf(room: string, name: string, entry: unknown): (readonly [Path, string])[] {
  const from = valueAt(entry, ["from"]);
  if (typeof from === "string") return [[[room, name, "from"], from]];
  if (!Array.isArray(from)) return [];
  return from.flatMap((stream: unknown, index) =>
    typeof stream === "string" ? [[[room, name, "from", index], stream] as const] : [],
  );
}

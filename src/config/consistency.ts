/**
 * What no single option can be blamed for: parts that do not fit each other.
 *
 * It reads the file's values as they stand, wrong ones included, so that these problems are listed beside all
 * others; what the declaration already calls wrong is passed over in silence.
 */
import { isLocalAddress } from "../core/loopback.ts";
import { nearestName } from "../core/nearest.ts";
import { brokerProblem } from "../source/broker-options.ts";
import { configOptions, type Config } from "./config.ts";
import { valueAt, type Finding, type Path } from "./finding.ts";

/** The stream in which gaps are told upstream (invariant 5); only the journal writes it. */
const gapsStream = "_gaps";

export function checkConsistency(value: unknown): Finding[] {
  if (!isMap(value)) return [];
  return [
    ...checkSources(value),
    ...checkGroupNames(value),
    ...checkTargets(value),
    ...checkOrigins(value),
    ...checkListens(value),
    ...checkOpenBrokers(value),
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
  const processors = entriesOf(value, "processors").map(([name]) => name);
  return entriesOf(value, "sinks")
    .filter(([name]) => processors.includes(name))
    .map(([name]) => ({
      path: ["sinks", name],
      at: "key",
      found: "found the name of a processor",
      allowed: "a name that no processor has",
    }));
}

function checkTargets(value: unknown): Finding[] {
  const findings: Finding[] = [];
  for (const [path, stream] of targetsOf(value)) {
    if (stream === gapsStream) {
      const allowed = "any other stream: the agent itself writes this one";
      findings.push({ path, at: "value", found: `found ${gapsStream}`, allowed });
    }
  }
  for (const [name, processor] of entriesOf(value, "processors")) {
    const to = valueAt(processor, ["to"]);
    const isLoop = originsOf("processors", name, processor).some(([, stream]) => stream === to);
    if (typeof to !== "string" || !isLoop) continue;
    const allowed = "another stream than the processor reads from";
    findings.push({ path: ["processors", name, "to"], at: "value", found: `found ${to}`, allowed });
  }
  return findings;
}

/** A stream to read from must come from somewhere. */
function checkOrigins(value: unknown): Finding[] {
  if (!areTargetsWhole(value)) return [];
  const streams = new Set([
    gapsStream,
    ...entriesOf(value, "streams").map(([name]) => name),
    ...targetsOf(value).map(([, stream]) => stream),
  ]);
  const findings: Finding[] = [];
  for (const room of ["processors", "sinks"] as const) {
    for (const [name, entry] of entriesOf(value, room)) {
      for (const [path, stream] of originsOf(room, name, entry)) {
        if (streams.has(stream)) continue;
        const nearest = nearestName(stream, [...streams]);
        findings.push({
          path,
          at: "value",
          found: `found ${JSON.stringify(stream)}, which no source, processor or entry of streams gives`,
          allowed: [...streams].join(", "),
          ...(nearest !== undefined && { nearest }),
        });
      }
    }
  }
  return findings;
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
    entriesOf(value, "processors").every(
      ([, entry]) => isMap(entry) && ["string", "undefined"].includes(typeof entry["to"]),
    )
  );
}

function checkListens(value: unknown): Finding[] {
  const http = listenOf(value, "http");
  const admin = listenOf(value, "admin");
  const findings: Finding[] = [];
  if (http === admin) {
    const room = valueAt(value, ["admin", "listen"]) === undefined ? "http" : "admin";
    const allowed = `another address than ${room === "http" ? "admin" : "http"}.listen`;
    findings.push({ path: [room, "listen"], at: "value", found: `found ${admin}`, allowed });
  }
  if (!isLocalAddress(admin) && valueAt(value, ["admin", "token"]) === undefined) {
    const allowed = "with admin.token; without one only an address of this machine";
    findings.push({ path: ["admin", "listen"], at: "value", found: `found ${admin}`, allowed });
  }
  return findings;
}

/** What only a broker itself can judge. */
export function checkBrokers(config: Config): Finding[] {
  return Object.entries(config.sources).flatMap(([name, source]): Finding[] => {
    // checkOpenBrokers has told of an open one, at its own line.
    const isJudged = source.type === "broker" && !isOpenBroker(source);
    const found = isJudged ? brokerProblem(source) : null;
    return found === null ? [] : [{ path: ["sources", name], at: "key", found }];
  });
}

function checkOpenBrokers(value: unknown): Finding[] {
  return entriesOf(value, "sources").flatMap(([name, source]): Finding[] => {
    if (valueAt(source, ["type"]) !== "broker" || !isOpenBroker(source)) return [];
    const found = `found ${String(valueAt(source, ["listen"]))}`;
    const allowed = "with users; without them only an address of this machine";
    return [{ path: ["sources", name, "listen"], at: "value", found, allowed }];
  });
}

function isOpenBroker(source: unknown): boolean {
  const listen = valueAt(source, ["listen"]);
  const users = valueAt(source, ["users"]);
  const isAnonymous = users === undefined || (isMap(users) && Object.keys(users).length === 0);
  return isAnonymous && typeof listen === "string" && !isLocalAddress(listen);
}

function listenOf(value: unknown, room: "http" | "admin"): string {
  const listen = valueAt(value, [room, "listen"]);
  if (typeof listen === "string") return listen;
  return String(configOptions.about.fields?.[room]?.about.fields?.["listen"]?.about.default);
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

/** Where events are read. */
function originsOf(room: string, name: string, entry: unknown): (readonly [Path, string])[] {
  const from = valueAt(entry, ["from"]);
  if (typeof from === "string") return [[[room, name, "from"], from]];
  if (!Array.isArray(from)) return [];
  return from.flatMap((stream: unknown, index) =>
    typeof stream === "string" ? [[[room, name, "from", index], stream] as const] : [],
  );
}

function entriesOf(value: unknown, room: string): [string, unknown][] {
  const map = valueAt(value, [room]);
  return isMap(map) ? Object.entries(map) : [];
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What a configuration says of its streams, and of who reads them. */
import type { Config } from "./config.ts";

/** What the journal is told of a stream. */
export function classOf(options: Config["streams"][string]) {
  const { linger, maxBytes, maxAge, priority, whenFull, thin } = options;
  return {
    priority,
    ...(linger !== undefined && { lingerMs: linger }),
    ...(maxBytes !== undefined && { maxBytes }),
    ...(maxAge !== undefined && { maxAgeMs: maxAge }),
    ...(whenFull !== undefined && { whenFull }),
    ...(thin !== undefined && { thinMs: thin }),
  };
}

/** Processors and sinks, and what they read. */
export function groupsOf(config: Config): { group: string; streams: readonly string[] }[] {
  return [
    ...Object.entries(config.processors).map(([group, { from }]) => ({
      group,
      streams: listOf(from),
    })),
    ...Object.entries(config.sinks).map(([group, { from }]) => ({ group, streams: from })),
  ];
}

export function listOf(from: string | readonly string[]): readonly string[] {
  return typeof from === "string" ? [from] : from;
}

/** Every stream that the configuration names anywhere. */
export function streamsOf(config: Config): string[] {
  return [
    ...new Set([
      ...Object.keys(config.streams),
      ...Object.values(config.sources).map(({ stream }) => stream),
      ...groupsOf(config).flatMap(({ streams }) => streams),
      ...Object.values(config.processors).flatMap(({ to }) => (to === undefined ? [] : [to])),
    ]),
  ];
}

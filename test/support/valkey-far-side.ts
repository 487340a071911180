/** Streams of a real server, as a sink leaves them. */
import type { ValkeySinkSettings } from "../../src/sink/valkey.ts";
import type { RedisServer } from "./redis-server.ts";

export function valkeySettings(
  url: string,
  more: Partial<ValkeySinkSettings> = {},
): ValkeySinkSettings {
  return {
    from: ["readings"],
    url,
    mode: "single",
    username: undefined,
    password: undefined,
    stream: "{device}:{stream}",
    encoding: "pspf",
    maxLength: undefined,
    answerTimeout: 15_000,
    tls: { ca: undefined, cert: undefined, key: undefined, verify: true },
    ...more,
  };
}

/** Of one answer: it must fit what a child process may print. */
const page = 2_000;

export interface Entry {
  /** `DEVICE/EPOCH/STREAM/SEQ`. */
  readonly name: string;
  readonly isBackfill: boolean;
}

/** In the stream's order. */
export function entriesIn(server: RedisServer, key: string): Entry[] {
  const entries: { name: string; isBackfill: boolean }[] = [];
  for (let from = "-"; ;) {
    const lines = server.cli("XRANGE", key, from, "+", "COUNT", `${page}`).split("\n");
    const ids = lines.filter((line) => /^\d{13}-\d+$/.test(line));
    for (const line of lines) {
      if (/^[^/]+\/[0-9a-z.-]+\/[^/]+\/\d+$/.test(line))
        entries.push({ name: line, isBackfill: false });
      const last = entries.at(-1);
      if (line === "backfill" && last !== undefined) last.isBackfill = true;
    }
    if (ids.length < page) return entries;
    from = `(${ids.at(-1)}`;
  }
}

export function namesIn(server: RedisServer, key: string): string[] {
  return entriesIn(server, key).map(({ name }) => name);
}

export function seqOf(name: string): number {
  return Number(name.split("/")[3]);
}

export function seqsIn(server: RedisServer, key: string): number[] {
  return namesIn(server, key).map(seqOf);
}

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
    tls: { ca: undefined, cert: undefined, key: undefined, verify: true },
    ...more,
  };
}

/** Of one answer: it must fit what a child process may print. */
const page = 2_000;

/** `DEVICE/EPOCH/STREAM/SEQ` of each entry, in the stream's order. */
export function namesIn(server: RedisServer, key: string): string[] {
  const names: string[] = [];
  for (let from = "-"; ;) {
    const lines = server.cli("XRANGE", key, from, "+", "COUNT", `${page}`).split("\n");
    const ids = lines.filter((line) => /^\d{13}-\d+$/.test(line));
    names.push(...lines.filter((line) => /^[^/]+\/[0-9a-z-]+\/[^/]+\/\d+$/.test(line)));
    if (ids.length < page) return names;
    from = `(${ids.at(-1)}`;
  }
}

export function seqsIn(server: RedisServer, key: string): number[] {
  return namesIn(server, key).map((name) => Number(name.split("/")[3]));
}

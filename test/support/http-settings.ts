/** The defaults of the sinks that speak HTTP, as a configuration without a word would have them. */
import type { HttpSinkSettings } from "../../src/sink/http.ts";

export const httpDefaults = {
  headers: {},
  token: undefined,
  username: undefined,
  password: undefined,
  connectTimeout: 10_000,
  answerTimeout: 60_000,
  timeout: 120_000,
  tls: { ca: undefined, cert: undefined, key: undefined, verify: true },
};

export function httpSettings(url: string): HttpSinkSettings {
  return {
    from: ["readings"],
    url,
    format: "ndjson",
    compression: "gzip",
    idempotency: "process",
    ...httpDefaults,
  };
}

/** The defaults of the sinks that speak HTTP, as a configuration without a word would have them. */
import type { HttpSinkSettings } from "../../src/sink/http.ts";
import type { InfluxSinkSettings } from "../../src/sink/influx.ts";
import type { RemoteWriteSettings } from "../../src/sink/remote-write.ts";

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

export function influxSettings(url: string): InfluxSinkSettings {
  return {
    from: ["readings"],
    url,
    version: 1,
    database: "telemetry",
    retentionPolicy: undefined,
    bucket: undefined,
    org: undefined,
    measurement: "{stream}",
    tags: {},
    fields: {},
    integers: [],
    precision: "ms",
    compression: "gzip",
    ...httpDefaults,
  };
}

export function remoteWriteSettings(url: string): RemoteWriteSettings {
  return {
    from: ["_metrics"],
    url,
    every: 15_000,
    protocol: "1.0",
    job: "holdfast",
    instance: "{device}",
    labels: {},
    maxSeries: 1000,
    ...httpDefaults,
  };
}

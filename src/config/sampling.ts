/** Whether the agent samples its own metrics: it does where a sink takes them upstream. */
import { metricsStream } from "../core/series.ts";
import type { Config } from "./config.ts";

/** How often, ms: as often as the most eager of these sinks asks; null: there is none. */
export function samplingMs({ sinks }: Config): number | null {
  const intervals = Object.values(sinks).flatMap((sink) =>
    sink.type === "remote-write" && sink.from.includes(metricsStream) ? [sink.every] : [],
  );
  return intervals.length === 0 ? null : Math.min(...intervals);
}

/** Samples of our own metrics give way before any event; 64 MiB hold some 12 days of 100 series each 15 s. */
export const metricsClass = { priority: 2, maxBytes: 64 * 1024 * 1024 };

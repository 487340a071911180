/** What a `Stream` tells of itself: for people and probes, and as PSPF's metrics in Prometheus' text format. */
import { metricTable, secondsBuckets } from "../core/metrics.ts";
import type { Subscription } from "./subscription.ts";

export interface StreamHealth {
  /** `degraded`: some subscription cannot go on at the moment. */
  readonly status: "ok" | "degraded";
  readonly backend: string;
  readonly subscriptions: readonly SubscriptionHealth[];
}

export interface SubscriptionHealth {
  readonly topic: string;
  readonly group: string;
  /** This worker's name in the group; null: it has not joined yet. */
  readonly consumer: string | null;
  /** Events since the start of this worker. */
  readonly succeeded: number;
  readonly failed: number;
  readonly deadLetters: number;
  readonly dropped: number;
  /** Of the whole group: entries that nobody was handed yet, and those that somebody works on; null: not known. */
  readonly waiting: number | null;
  readonly pending: number | null;
  readonly lastError: string | null;
  /** Why nothing goes on at the moment. */
  readonly trouble: string | null;
}

export async function subscriptionHealth(subscription: Subscription): Promise<SubscriptionHealth> {
  const { topic, group, figures, worker } = subscription;
  // Where the server is away, asking it for figures would only keep the answer waiting.
  const asked = figures.trouble === null ? worker.member?.lag() : undefined;
  const lag = await asked?.catch(() => undefined);
  return {
    topic,
    group,
    consumer: worker.member?.consumer ?? null,
    succeeded: figures.succeededTotal,
    failed: figures.failedTotal,
    deadLetters: figures.deadLettersTotal,
    dropped: figures.droppedTotal,
    waiting: lag?.waiting ?? null,
    pending: lag?.pending ?? null,
    lastError: figures.lastError,
    trouble: figures.trouble,
  };
}

/**
 * Text exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/): `stream_lag`,
 * `stream_messages_processed_total` and `stream_processing_seconds`, as PSPF names them.
 */
export async function metricsText(subscriptions: readonly Subscription[]): Promise<string> {
  const [lag, counts, times]: [string[], string[], string[]] = [[], [], []];
  for (const subscription of subscriptions) {
    const { topic: stream, group, figures } = subscription;
    const { waiting, pending } = await subscriptionHealth(subscription);
    const labels = { stream, group };
    if (waiting !== null && pending !== null) {
      lag.push(sample("stream_lag", labels, waiting + pending));
    }
    const byStatus = {
      success: figures.succeededTotal,
      error: figures.failedTotal,
      dead_letter: figures.deadLettersTotal,
      dropped: figures.droppedTotal,
    };
    for (const [status, count] of Object.entries(byStatus)) {
      counts.push(sample("stream_messages_processed_total", { ...labels, status }, count));
    }
    const bounds = [...secondsBuckets.map(String), "+Inf"];
    bounds.forEach((le, at) => {
      const count = figures.batchesWithin[at] ?? figures.batchesTotal;
      times.push(sample("stream_processing_seconds_bucket", { ...labels, le }, count));
    });
    times.push(sample("stream_processing_seconds_sum", labels, figures.batchSecondsTotal));
    times.push(sample("stream_processing_seconds_count", labels, figures.batchesTotal));
  }
  return [
    ...family("stream_lag", lag),
    ...family("stream_messages_processed_total", counts),
    ...family("stream_processing_seconds", times),
    "",
  ].join("\n");
}

function family(name: keyof typeof metricTable, samples: readonly string[]): string[] {
  const { help, kind } = metricTable[name];
  return samples.length === 0
    ? []
    : [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...samples];
}

function sample(name: string, labels: Readonly<Record<string, string>>, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  return `${name}{${pairs.join(",")}} ${value}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

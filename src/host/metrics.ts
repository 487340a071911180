/**
 * The metrics of core/metrics.ts, given to prom-client. Its door.
 *
 * A part resolves its series once and adds to plain numbers on the hot path; prom-client sees them at a scrape.
 * Bounded: a metric has at most `seriesMax` series; what comes on top is counted together under the label `other`.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { metricTable, secondsBuckets, type Metrics } from "../core/metrics.ts";
import { formatSeries } from "../core/series.ts";
import type { EventLoopWatch } from "./event-loop.ts";
import { bytesWritten } from "./wear.ts";

export interface MetricsBook extends Metrics {
  /** What a scrape gets: OpenMetrics where `accept` asks for it, else Prometheus text. */
  render(accept: string | undefined): Promise<{ contentType: string; body: string }>;
  /** The series that are worth keeping, each with its value, by its name as Prometheus writes it. */
  sample(): Promise<Readonly<Record<string, number>>>;
}

export interface MetricsParts {
  readonly eventLoop: EventLoopWatch;
  /** Called once for each metric that has more series than it may. */
  readonly onOverflow?: (metric: string, seriesMax: number) => void;
}

/**
 * Of Node's and the process's own metrics, those that a fleet's operator looks at: samples lie on the card. All of
 * ours are kept.
 */
const sampled =
  /^(holdfast_|stream_|process_(cpu_seconds_total|resident_memory_bytes|start_time_seconds|open_fds)$|nodejs_heap_size_used_bytes$)/;

/** Series of one metric: names come from the configuration, and a Prometheus for 5,000 devices pays for each. */
const seriesMax = 1000;

type Name = keyof typeof metricTable;
type AnyLabels = Readonly<Record<string, string>>;

export function createMetrics(parts: MetricsParts): MetricsBook {
  const registry = new Registry();
  const scrapes: (() => void)[] = [];
  collectProcessMetrics(registry);
  const numbers = new Map<Name, SeriesTable<Numbered>>();
  const histograms = new Map<Name, SeriesTable<{ observe(value: number): void }>>();
  for (const [key, row] of Object.entries(metricTable)) {
    const name = key as Name;
    const overflow = (): void => parts.onOverflow?.(name, seriesMax);
    const common = { name, help: row.help, labelNames: [...row.labels], registers: [registry] };
    if (row.kind === "histogram") {
      const histogram = new Histogram({ ...common, buckets: [...secondsBuckets] });
      const make = (labels: AnyLabels): { observe(value: number): void } => {
        // zero() makes the series show before its first observation.
        histogram.zero(labels);
        return histogram.labels(labels);
      };
      histograms.set(name, createSeriesTable(row.labels, make, overflow));
      continue;
    }
    const table = createSeriesTable<Numbered>(
      row.labels,
      (labels) => ({ labels, value: 0 }),
      overflow,
    );
    numbers.set(name, table);
    if (row.labels.length === 0) table.find({});
    if (row.kind === "counter") registerCounter(common, table);
    else registerGauge(common, table);
  }
  const numbered = (name: Name, labels: AnyLabels): Numbered =>
    numbers.get(name)?.find(labels) ?? unknown(name);
  const refresh = async (): Promise<void> => {
    for (const collect of scrapes) collect();
    numbered("holdfast_event_loop_lag_seconds", {}).value = parts.eventLoop.takeLagSeconds();
    const written = numbered("holdfast_journal_disk_bytes_written_total", {});
    written.value = (await bytesWritten()) ?? written.value;
  };

  return {
    counter(name, labels) {
      const counter = numbered(name, labels);
      return { add: (count = 1) => void (counter.value += count) };
    },
    gauge(name, labels) {
      const gauge = numbered(name, labels);
      return { set: (value) => void (gauge.value = value) };
    },
    histogram: (name, labels) => histograms.get(name)?.find(labels) ?? unknown(name),
    onScrape: (collect) => void scrapes.push(collect),
    async sample() {
      await refresh();
      const samples: Record<string, number> = {};
      for (const { name, values } of await registry.getMetricsAsJSON()) {
        if (!sampled.test(name)) continue;
        for (const { value, labels, metricName } of values as readonly JsonValue[]) {
          if (Number.isFinite(value)) samples[formatSeries(metricName ?? name, labels)] = value;
        }
      }
      return samples;
    },
    async render(accept) {
      await refresh();
      const text = await registry.metrics();
      return asksForOpenMetrics(accept)
        ? { contentType: Registry.OPENMETRICS_CONTENT_TYPE, body: toOpenMetrics(text) }
        : { contentType: Registry.PROMETHEUS_CONTENT_TYPE, body: text };
    },
  };
}

/** A histogram's parts have names of their own; prom-client's types leave that out. */
interface JsonValue {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
}

interface Numbered {
  readonly labels: AnyLabels;
  value: number;
}

interface SeriesTable<S> {
  /** The series with these labels, made when first asked for; the one called `other` when there are too many. */
  find(labels: AnyLabels): S;
  all(): Iterable<S>;
}

function createSeriesTable<S>(
  labelNames: readonly string[],
  make: (labels: AnyLabels) => S,
  overflow: () => void,
): SeriesTable<S> {
  const all = new Map<string, S>();
  let other: S | undefined;
  const findOther = (): S => {
    if (other !== undefined) return other;
    overflow();
    other = make(Object.fromEntries(labelNames.map((label) => [label, "other"])));
    all.set("", other);
    return other;
  };
  return {
    find(labels) {
      const key = JSON.stringify(labelNames.map((label) => labels[label]));
      const known = all.get(key);
      if (known !== undefined) return known;
      if (all.size >= seriesMax) return findOther();
      const made = make(labels);
      all.set(key, made);
      return made;
    },
    all: () => all.values(),
  };
}

interface Common {
  readonly name: string;
  readonly help: string;
  readonly labelNames: string[];
  readonly registers: Registry[];
}

function registerCounter(common: Common, table: SeriesTable<Numbered>): void {
  const counter: Counter = new Counter({
    ...common,
    collect() {
      counter.reset();
      for (const { labels, value } of table.all()) counter.inc(labels, value);
    },
  });
}

function registerGauge(common: Common, table: SeriesTable<Numbered>): void {
  const gauge: Gauge = new Gauge({
    ...common,
    collect() {
      for (const { labels, value } of table.all()) gauge.set(labels, value);
    },
  });
}

function unknown(name: string): never {
  throw new Error(`No such metric: ${name}`);
}

/**
 * prom-client's process metrics. Measured: its observer of garbage collections costs nothing that shows (3,000
 * collections in 1.9 s of CPU); its event loop histogram wakes the process 100 times a second and cannot be left
 * out, so it is made to look every 10 minutes and taken out of the registry: ours does that work.
 */
function collectProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 600_000 });
  for (const { name } of registry.getMetricsAsArray()) {
    if (name.startsWith("nodejs_eventloop_")) registry.removeSingleMetric(name);
  }
}

/** As Prometheus asks: `application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2`. */
function asksForOpenMetrics(accept: string | undefined): boolean {
  const weight = (type: string): number => {
    const range = accept?.split(",").find((part) => part.trim().startsWith(type));
    if (range === undefined) return 0;
    return Number(/;\s*q=([\d.]+)/.exec(range)?.[1] ?? 1);
  };
  const open = weight("application/openmetrics-text");
  return open > 0 && open >= weight("text/plain");
}

/**
 * OpenMetrics out of Prometheus text: a counter's family has no `_total`, there are no empty lines, and the end is
 * marked. prom-client's own way renames the metrics for good, so that the next plain scrape lacks the `_total`.
 */
function toOpenMetrics(text: string): string {
  const counters = new Set([...text.matchAll(/^# TYPE (\S+)_total counter$/gm)].map((m) => m[1]));
  const lines = text.split("\n").filter((line) => line !== "");
  const renamed = lines.map((line) => {
    const match = /^# (HELP|TYPE) (\S+)_total( .*)$/.exec(line);
    return match !== null && counters.has(match[2]) ? `# ${match[1]} ${match[2]}${match[3]}` : line;
  });
  return `${renamed.join("\n")}\n# EOF\n`;
}

/**
 * Every metric, declared once. host/metrics.ts gives them to prom-client; README's table is printed from here.
 * Names without the prefix `holdfast_` carry PSPF's meaning.
 */

/**
 * Buckets for commits and batches, seconds: an SSD's fsync takes 1 ms, an SD card's 5 to 100, a dying one's
 * seconds.
 */
export const secondsBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

interface MetricRow {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly help: string;
  readonly labels: readonly string[];
}

export const metricTable = {
  stream_lag: {
    kind: "gauge",
    help: "Events that a group has not passed yet",
    labels: ["stream", "group"],
  },
  stream_messages_processed_total: {
    kind: "counter",
    help: "Events that a processor has dealt with, by outcome (success, error, dead_letter, dropped)",
    labels: ["stream", "group", "status"],
  },
  stream_processing_seconds: {
    kind: "histogram",
    help: "Time that a processor took for one batch, without its commit",
    labels: ["stream", "group"],
  },
  holdfast_step_events_total: {
    kind: "counter",
    help: "Events behind a step's watermark (late), and rows of its state that went before their time (evicted)",
    labels: ["processor", "step", "what"],
  },
  holdfast_state_keys: {
    kind: "gauge",
    help: "Keys that a processor's handler keeps in its state, every five minutes",
    labels: ["processor"],
  },
  holdfast_state_bytes: {
    kind: "gauge",
    help: "Bytes of those keys and their values",
    labels: ["processor"],
  },
  holdfast_step_rows: {
    kind: "gauge",
    help: "Rows that a step remembers: keys, or open windows",
    labels: ["processor", "step"],
  },
  holdfast_journal_events: { kind: "gauge", help: "Events kept in the journal", labels: [] },
  holdfast_journal_bytes: { kind: "gauge", help: "Bytes in use in the journal's file", labels: [] },
  holdfast_journal_commits_total: { kind: "counter", help: "Commits, each one fsync", labels: [] },
  holdfast_journal_commit_seconds: {
    kind: "histogram",
    help: "Time of one commit, with its fsync",
    labels: [],
  },
  holdfast_journal_dropped_total: {
    kind: "counter",
    help: "Events removed before every group had passed them",
    labels: ["stream", "reason"],
  },
  holdfast_journal_lost_total: {
    kind: "counter",
    help: "Events that damage to the journal's file has taken",
    labels: ["stream"],
  },
  holdfast_journal_trouble: {
    kind: "gauge",
    help: "1 while that keeps the journal from taking events (quota, disk-full, disk-failing)",
    labels: ["cause"],
  },
  holdfast_journal_failed_turns_total: {
    kind: "counter",
    help: "Commits that failed and were tried again, by cause (disk-full, disk-failing)",
    labels: ["cause"],
  },
  holdfast_journal_reserve_bytes: {
    kind: "gauge",
    help: "Bytes held back on the disk, so that cursors move and trims work when others fill it",
    labels: [],
  },
  holdfast_journal_disk_bytes_written_total: {
    kind: "counter",
    help: "Bytes that this process sent to the disk layer (/proc/self/io write_bytes less cancelled_write_bytes)",
    labels: [],
  },
  holdfast_card_used_ratio: {
    kind: "gauge",
    help: "Share of its life that the card says it has used, at most (eMMC only; beyond 1: past what it was made for)",
    labels: [],
  },
  holdfast_source_events_total: {
    kind: "counter",
    help: "Events from a source, by status (accepted, dead_letter, skipped, repeated)",
    labels: ["source", "status"],
  },
  holdfast_source_bytes_total: {
    kind: "counter",
    help: "Payload bytes that a source handed over; beside journal_disk_bytes_written_total the wear for each of them",
    labels: ["source"],
  },
  holdfast_source_connected: {
    kind: "gauge",
    help: "1 while a source's far side answers",
    labels: ["source"],
  },
  holdfast_sink_events_total: {
    kind: "counter",
    help: "Events that a sink has dealt with, by status (sent; delivered: the far side has confirmed it; refused, retried, trimmed)",
    labels: ["sink", "status"],
  },
  holdfast_sink_requests_total: {
    kind: "counter",
    help: "Requests of a sink that speaks HTTP, by outcome (confirmed, refused, failed)",
    labels: ["sink", "outcome"],
  },
  holdfast_sink_connected: {
    kind: "gauge",
    help: "1 while a sink's far side answers",
    labels: ["sink"],
  },
  holdfast_sink_wire_bytes_total: {
    kind: "counter",
    help: "Bytes that a sink has put on the wire, as far as it knows them",
    labels: ["sink"],
  },
  holdfast_sink_plain_bytes_total: {
    kind: "counter",
    help: "What those bytes were before they were compressed, for a sink that compresses",
    labels: ["sink"],
  },
  holdfast_sink_at_risk_events: {
    kind: "gauge",
    help: "Events that were acknowledged to their sources and that a sink's far side has not confirmed",
    labels: ["sink"],
  },
  holdfast_sink_at_risk_bytes: {
    kind: "gauge",
    help: "About how many bytes of the journal these take",
    labels: ["sink"],
  },
  holdfast_sink_full_seconds: {
    kind: "gauge",
    help: "Until what a sink has not delivered fills the journal, at the rate of the last ten minutes; +Inf: that does not grow",
    labels: ["sink"],
  },
  holdfast_sink_oldest_unsent_seconds: {
    kind: "gauge",
    help: "Age of the oldest event that a sink has not delivered",
    labels: ["sink"],
  },
  holdfast_dlq_events: { kind: "gauge", help: "Dead letters kept", labels: ["stream"] },
  holdfast_plane_connected: {
    kind: "gauge",
    help: "1 while the plane that was asked for answers; 0 while memory stands in for a server",
    labels: [],
  },
  holdfast_plane_info: {
    kind: "gauge",
    help: "1 for the plane from which processors read now, by kind (valkey, memory)",
    labels: ["kind"],
  },
  holdfast_clock_synced: {
    kind: "gauge",
    help: "1 after the first time sync of this boot",
    labels: [],
  },
  holdfast_event_loop_lag_seconds: {
    kind: "gauge",
    help: "Longest stall of the main thread since the last scrape or sample",
    labels: [],
  },
  holdfast_component_health: {
    kind: "gauge",
    help: "What /health says of a component: 0 ok, 1 degraded, 2 failing",
    labels: ["component"],
  },
  holdfast_board_temperature_celsius: {
    kind: "gauge",
    help: "The board's temperature; this and the other board metrics are there when a remote-write sink is",
    labels: ["sensor"],
  },
  holdfast_board_throttled: {
    kind: "gauge",
    help: "1 while the board slows itself, or has since its boot, by cause (Raspberry Pi)",
    labels: ["cause"],
  },
  holdfast_board_load: { kind: "gauge", help: "Load average, by period", labels: ["period"] },
  holdfast_board_cpu_busy_ratio: {
    kind: "gauge",
    help: "Share of CPU time that was not idle since the last sample",
    labels: ["cpu"],
  },
  holdfast_board_bytes: {
    kind: "gauge",
    help: "Bytes of memory and of the disk, total and available",
    labels: ["of", "state"],
  },
  holdfast_board_network_bytes: {
    kind: "gauge",
    help: "Bytes over an interface since boot, received and sent",
    labels: ["interface", "direction"],
  },
} as const satisfies Record<string, MetricRow>;

export type MetricTable = typeof metricTable;
type NamesOf<K> = {
  [N in keyof MetricTable]: MetricTable[N]["kind"] extends K ? N : never;
}[keyof MetricTable];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;
export type Labels<N extends keyof MetricTable> = Readonly<
  Record<MetricTable[N]["labels"][number], string>
>;

/** One time series to add to: resolve it once, keep it, call it on the hot path. */
export interface Counter {
  add(count?: number): void;
}
export interface Gauge {
  set(value: number): void;
}
export interface Histogram {
  observe(value: number): void;
}

export interface Metrics {
  counter<N extends CounterName>(name: N, labels: Labels<N>): Counter;
  gauge<N extends GaugeName>(name: N, labels: Labels<N>): Gauge;
  histogram<N extends HistogramName>(name: N, labels: Labels<N>): Histogram;
  /** `collect` runs before each scrape, to set gauges that are only worth computing then. */
  onScrape(collect: () => void): void;
}

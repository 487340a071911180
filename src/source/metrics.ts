/**
 * The agent's own metrics and the board's, sampled into a stream of the journal, for a sink that takes them upstream
 * (sink/remote-write.ts): one event a round, `{ "name{label=\"value\"}": number, … }`, whose time is the sample's.
 *
 * Not configured by itself: the agent opens it when there is such a sink. Bound: one round a poll, as many series as
 * the metrics have (host/metrics.ts bounds them); a round for which there is no room is skipped and counted.
 */
import type { Context } from "../core/context.ts";
import type { Metrics } from "../core/metrics.ts";
import { Poll } from "./poll.ts";
import type { Source } from "./source.ts";
import { Board } from "./system.ts";

interface MetricsSourceParts {
  readonly everyMs: number;
  /** Every series with its value. */
  readonly sample: () => Promise<Readonly<Record<string, number>>>;
  /** Where /proc and /sys are found. */
  readonly root: string;
}

const headers = Object.freeze({ source: "metrics" });

export function createMetricsSource(
  context: Context,
  { everyMs, sample, root }: MetricsSourceParts,
): Source {
  let poll: Poll | undefined;
  return {
    async open(intake) {
      const board = new Board(root);
      const read = async (signal: AbortSignal): Promise<void> => {
        publish(await board.read(), context.metrics);
        const samples = await sample();
        if (signal.aborted) return;
        intake.accept({ headers, payload: Buffer.from(JSON.stringify(samples)) }, () => undefined);
      };
      context.health.figures(() => ({ skipped: poll?.skipped ?? 0 }));
      poll = new Poll({ context, intake, everyMs, read });
    },
    async close() {
      await poll?.stop();
    },
  };
}

/** What the board told as metrics; what it did not tell keeps its last value, or has no series. */
function publish(told: Readonly<Record<string, unknown>>, metrics: Metrics): void {
  const { temperature, throttling, load, cpu, memory, disk, network } = told;
  if (typeof temperature === "number") {
    metrics.gauge("holdfast_board_temperature_celsius", { sensor: "cpu" }).set(temperature);
  }
  for (const [cause, is] of Object.entries((throttling ?? {}) as Record<string, boolean>)) {
    metrics.gauge("holdfast_board_throttled", { cause }).set(Number(is));
  }
  for (const [index, period] of ["1m", "5m", "15m"].entries()) {
    const average = (load as number[] | undefined)?.[index];
    if (average !== undefined) metrics.gauge("holdfast_board_load", { period }).set(average);
  }
  if (typeof cpu === "number") {
    metrics.gauge("holdfast_board_cpu_busy_ratio", { cpu: "all" }).set(cpu);
  }
  const bytes = { memory, disk } as Record<"memory" | "disk", Record<string, number> | undefined>;
  for (const [of, figures] of Object.entries(bytes)) {
    for (const state of ["total", "available"]) {
      const value = figures?.[`${state}Bytes`];
      if (value !== undefined) metrics.gauge("holdfast_board_bytes", { of, state }).set(value);
    }
  }
  for (const [name, figures] of Object.entries((network ?? {}) as Record<string, unknown>)) {
    const { receivedBytes, sentBytes } = figures as Record<string, number | undefined>;
    for (const [direction, value] of Object.entries({ received: receivedBytes, sent: sentBytes })) {
      if (value === undefined) continue;
      metrics.gauge("holdfast_board_network_bytes", { interface: name, direction }).set(value);
    }
  }
}

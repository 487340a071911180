/**
 * What every part needs from outside itself, made first and ended last: log, metrics, health, clock. `context`
 * hands them out under a part's name.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { watchEventLoop, type EventLoopWatch } from "./event-loop.ts";
import { createHealthBook, type ComponentKind, type HealthBook } from "./health.ts";
import { createLog, type LogLevel, type LogRoot } from "./log.ts";
import { createMetrics, type MetricsBook } from "./metrics.ts";
import { createTimeSync, type TimeSync } from "./time-sync.ts";

export interface Surroundings extends AsyncDisposable {
  readonly log: LogRoot;
  readonly metrics: MetricsBook;
  readonly health: HealthBook;
  readonly clock: Clock;
  readonly eventLoop: EventLoopWatch;
  readonly context: (kind: ComponentKind, name: string) => Context;
}

interface SurroundingsParts {
  readonly level: LogLevel;
  readonly version: string;
  readonly device: () => string;
  /** How long steps that need time stand still for the first time sync, ms. */
  readonly clockWaitMs: number;
  readonly random: () => number;
}

export async function openSurroundings(parts: SurroundingsParts): Promise<Surroundings> {
  let timeSync: TimeSync | undefined;
  const clock = systemClock(() => timeSync?.quality() ?? "unsynced");
  const log = await createLog(parts.level, "agent", { clock });
  const eventLoop = watchEventLoop();
  const metrics = createMetrics({
    eventLoop,
    onOverflow: (metric, seriesMax) => {
      log.warn(
        `Metric ${metric} has more than ${seriesMax} series: the rest is counted as "other"`,
      );
    },
  });
  const health = createHealthBook({ clock, version: parts.version, device: parts.device });
  metrics.onScrape(() => {
    for (const [component, { status }] of Object.entries(health.snapshot().components)) {
      const level = ["ok", "degraded", "failing"].indexOf(status);
      metrics.gauge("holdfast_component_health", { component }).set(level);
    }
  });
  const context = (kind: ComponentKind, name: string): Context => ({
    name,
    log: log.part(name),
    metrics,
    clock,
    health: health.component(kind, name),
    random: parts.random,
  });
  timeSync = createTimeSync({ context: context("agent", "clock"), waitMs: parts.clockWaitMs });
  timeSync.start();
  return {
    log,
    metrics,
    health,
    clock,
    eventLoop,
    context,
    [Symbol.asyncDispose]: async () => {
      timeSync.stop();
      eventLoop.stop();
      log.flush();
    },
  };
}

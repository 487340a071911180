/** What a part is given when it is made: everything it needs from outside itself. */
import type { Clock } from "./clock.ts";
import type { Metrics } from "./metrics.ts";

export type LogFields = Readonly<Record<string, unknown>>;

/** One line for each call. `fields` never holds a secret or a payload. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export type HealthStatus = "ok" | "degraded" | "failing";
export type Figures = Readonly<Record<string, string | number | boolean | null>>;

/** A part's line in `/health`. `since` is kept by whoever shows it. */
export interface Health {
  /**
   * `detail` says in one sentence what is wrong and what happens meanwhile; none when ok.
   * `figures` are read when health is shown.
   */
  report(status: HealthStatus, detail?: string): void;
  /** Called each time health is shown; replaces the one given before. */
  figures(read: () => Figures): void;
}

export interface Context {
  /** The part's name: a source's, processor's or sink's key in the configuration, or `journal`. */
  readonly name: string;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly health: Health;
  /** In [0, 1). */
  readonly random: () => number;
}

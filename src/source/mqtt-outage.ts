/** What a source says about its broker: health at once, the log once for each outage. */
import type { Context, LogFields } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import { formatDuration } from "../core/quantity.ts";

/** An outage of days is worth a line each hour, so that a log that was rotated still shows it. */
const repeatMs = 3_600_000;
/** A connection that comes and goes says so once a minute. */
const flapMs = 60_000;

export class Outage {
  readonly #context: Context;
  #sinceMs: number | null = null;
  #toldMs = 0;
  #told = "";
  #overMs = Number.NEGATIVE_INFINITY;

  constructor(context: Context) {
    this.#context = context;
  }

  /** The connection, or an attempt at one, failed; the next attempt is in `delayMs`. */
  began(error: HoldfastError, delayMs: number): void {
    this.#sinceMs ??= this.#context.clock.monotonicMs();
    const next = formatDuration(Math.ceil(delayMs / 1000) * 1000);
    this.#tell(error, `${error.message}; the next attempt is within ${next}`);
  }

  /** Connected, but not as it should be. */
  limited(error: HoldfastError): void {
    this.#tell(error, error.message);
  }

  over(message: string, fields: LogFields): void {
    const { clock, health, log } = this.#context;
    const nowMs = clock.monotonicMs();
    const after = this.#sinceMs === null ? "" : ` after ${formatDuration(nowMs - this.#sinceMs)}`;
    health.report("ok");
    if (nowMs - this.#overMs >= flapMs) log.info(`${message}${after}`, fields);
    else log.debug(`${message}${after}`, fields);
    this.#sinceMs = null;
    this.#overMs = nowMs;
  }

  #tell(error: HoldfastError, detail: string): void {
    const { clock, health, log } = this.#context;
    health.report("degraded", `${error.code}: ${detail}`);
    const nowMs = clock.monotonicMs();
    const quietMs = this.#overMs > this.#toldMs ? flapMs : repeatMs;
    if (this.#told === error.message && nowMs - this.#toldMs < quietMs) return;
    this.#told = error.message;
    this.#toldMs = nowMs;
    log.warn(detail, { code: error.code, hint: error.hint });
  }
}

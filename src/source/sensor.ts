/**
 * Sensors that the kernel's drivers show under /sys. An event is { sensor, <quantity>: number }: °C, %, Pa, V, A, W,
 * lx, rpm.
 *
 * A sensor that gives no valid reading is told in health and does not hold up the others; it is tried again at each
 * poll. A sensor that hangs costs its own readings only (sensor-files.ts); one that was there and is gone is missed.
 *
 * A quantity that a device has once goes by its name alone; several of a kind have their number or label added
 * (`voltage0`, `temperature_Core_0`).
 */
import type { Context } from "../core/context.ts";
import { errorTable } from "../core/errors.ts";
import { group, listOf, oneOf, text, type Infer } from "../core/field.ts";
import { Poll, pollEvery } from "./poll.ts";
import { SensorFiles } from "./sensor-files.ts";
import { readHwmon } from "./sensor-hwmon.ts";
import { readIio } from "./sensor-iio.ts";
import type { Driver, Reading } from "./sensor-reading.ts";
import { readThermal } from "./sensor-thermal.ts";
import { readW1 } from "./sensor-w1.ts";
import { sourceOptions, type Intake, type Source } from "./source.ts";

const drivers: Readonly<Record<"w1" | "iio" | "hwmon" | "thermal", Driver>> = {
  w1: readW1,
  iio: readIio,
  hwmon: readHwmon,
  thermal: readThermal,
};

export const sensorSourceOptions = group(
  {
    ...sourceOptions,
    driver: oneOf(["w1", "iio", "hwmon", "thermal"], {
      doc: "The kernel's interface: w1 (DS18B20 and kin), iio (ADCs, climate, light), hwmon (fans, power), thermal",
      example: "w1",
    }),
    every: pollEvery("5s"),
    only: listOf(
      text({ doc: "A sensor's name, as its events show it", example: "28-0316a2795bff" }),
      {
        doc: "Read only these sensors; left out: all",
        default: [],
      },
    ),
    root: text({ doc: "Where /sys is found; another root serves tests", default: "/" }),
  },
  {
    doc: "Sensors that the kernel's drivers show under /sys, as { sensor, <quantity> }: temperature (°C), humidity (%), pressure (Pa), voltage (V), current (A), power (W), illuminance (lx), resistance (Ω), distance (m), fan (rpm)",
  },
);
export type SensorSourceOptions = Infer<typeof sensorSourceOptions>;

/** Sensors that were seen once are missed when they are gone; beyond as many, new ones are not remembered. */
const rememberedMax = 256;
/** Health shows this many problems at a time. */
const shownMax = 5;
/** A sensor that stays dead is worth a line each hour, one that comes and goes a line each half minute. */
const [repeatMs, flapMs] = [3_600_000, 30_000];

export function createSensorSource(context: Context, options: SensorSourceOptions): Source {
  return new SensorSource(context, options);
}

class SensorSource implements Source {
  readonly #context: Context;
  readonly #options: SensorSourceOptions;
  readonly #files: SensorFiles;
  readonly #only: ReadonlySet<string>;
  readonly #known: Set<string>;
  #poll: Poll | undefined;
  #told = "";
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(context: Context, options: SensorSourceOptions) {
    this.#context = context;
    this.#options = options;
    this.#files = new SensorFiles(context.clock);
    this.#only = new Set(options.only);
    this.#known = new Set(options.only);
  }

  async open(intake: Intake): Promise<void> {
    const context = this.#context;
    context.health.figures(() => ({
      sensors: this.#known.size,
      skipped: this.#poll?.skipped ?? 0,
      hanging: this.#files.late,
    }));
    const read = (signal: AbortSignal): Promise<void> => this.#read(intake, signal);
    this.#poll = new Poll({ context, intake, everyMs: this.#options.every, read });
  }

  async close(): Promise<void> {
    await this.#poll?.stop();
  }

  async #read(intake: Intake, signal: AbortSignal): Promise<void> {
    const { driver, root } = this.#options;
    const stopped = Promise.withResolvers<null>();
    const stop = (): void => stopped.resolve(null);
    signal.addEventListener("abort", stop, { once: true });
    const reading = drivers[driver](this.#files, root, this.#only);
    // A file that hangs is left to itself when the agent stops.
    const readings = await Promise.race([reading, stopped.promise]);
    signal.removeEventListener("abort", stop);
    if (readings === null || signal.aborted) return;
    for (const { sensor, quantities } of readings) {
      if (this.#known.size < rememberedMax) this.#known.add(sensor);
      if (Object.keys(quantities).length === 0) continue;
      const payload = Buffer.from(JSON.stringify({ sensor, ...quantities }));
      const headers = { source: this.#context.name, sensor };
      intake.accept({ headers, payload }, () => undefined);
    }
    this.#tell(readings);
  }

  #tell(readings: readonly Reading[]): void {
    const { name, metrics, health, log } = this.#context;
    const found = new Set(readings.map(({ sensor }) => sensor));
    const problems = readings.flatMap(({ sensor, problem }) =>
      problem === undefined ? [] : [`${sensor}: ${problem}`],
    );
    for (const sensor of this.#known) if (!found.has(sensor)) problems.push(`${sensor}: not there`);
    if (problems.length === 0 && readings.length === 0) {
      problems.push(
        `no ${this.#options.driver} sensor is there; check the wiring and the overlay in config.txt`,
      );
    }
    const isAny = readings.some(({ quantities }) => Object.keys(quantities).length > 0);
    metrics.gauge("holdfast_source_connected", { source: name }).set(isAny ? 1 : 0);
    if (problems.length === 0) {
      if (this.#told !== "") log.info("All sensors give readings");
      this.#told = "";
      health.report("ok");
      return;
    }
    const more = problems.length > shownMax ? ` and ${problems.length - shownMax} more` : "";
    const detail = `${problems.slice(0, shownMax).join("; ")}${more}`;
    health.report("degraded", `SOURCE_ABSENT: ${detail}; tried again at each poll`);
    this.#warn(detail);
  }

  #warn(detail: string): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#toldMs < (detail === this.#told ? repeatMs : flapMs)) return;
    this.#told = detail;
    this.#toldMs = nowMs;
    const { hint } = errorTable.SOURCE_ABSENT;
    this.#context.log.warn(detail, { code: "SOURCE_ABSENT", hint });
  }
}

/**
 * Sensors that the kernel's drivers show under /sys. An event is { sensor, <quantity>: number }: °C, %, Pa, V, A, W,
 * lx, rpm.
 *
 * A sensor that gives no valid reading is told in health and does not hold up the others; it is tried again at each
 * poll. A reading has a time-out: a bus that hangs costs its own sensors only.
 */
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import { group, listOf, oneOf, text, type Infer } from "../core/field.ts";
import { Poll, pollEvery } from "./poll.ts";
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
  { doc: "Sensors that the kernel's drivers show under /sys" },
);
export type SensorSourceOptions = Infer<typeof sensorSourceOptions>;

/** A DS18B20 converts for 750 ms; ten on one wire take 7.5 s. A poll that takes longer hangs. */
const readTimeoutMs = 10_000;

export function createSensorSource(context: Context, options: SensorSourceOptions): Source {
  let poll: Poll | undefined;
  return {
    async open(intake) {
      const read = (signal: AbortSignal): Promise<void> =>
        readAll(context, options, intake, signal);
      context.health.figures(() => ({ skipped: poll?.skipped ?? 0 }));
      poll = new Poll({ context, intake, everyMs: options.every, read });
    },
    async close() {
      await poll?.stop();
    },
  };
}

async function readAll(
  context: Context,
  options: SensorSourceOptions,
  intake: Intake,
  signal: AbortSignal,
): Promise<void> {
  const connected = context.metrics.gauge("holdfast_source_connected", { source: context.name });
  let readings: readonly Reading[] = [];
  try {
    const reading = drivers[options.driver](options.root, new Set(options.only));
    readings = await within(context, reading, signal);
  } catch (error) {
    tell(context, `Cannot read ${options.driver} sensors: ${messageOf(error)}`);
  }
  if (signal.aborted) return;
  const problems: string[] = [];
  for (const { sensor, ...rest } of readings) {
    if ("problem" in rest) {
      problems.push(`${sensor}: ${rest.problem}`);
      continue;
    }
    const payload = Buffer.from(JSON.stringify({ sensor, ...rest.quantities }));
    intake.accept({ headers: { source: context.name, sensor }, payload }, () => undefined);
  }
  const missing = options.only.filter((name) => readings.every(({ sensor }) => sensor !== name));
  problems.push(...missing.map((name) => `${name}: not there`));
  if (readings.length === 0 && missing.length === 0) {
    problems.push(
      `no ${options.driver} sensor is there; check the wiring and the overlay in config.txt`,
    );
  }
  connected.set(readings.length > problems.length - missing.length ? 1 : 0);
  if (problems.length > 0) tell(context, `SOURCE_ABSENT: ${problems.slice(0, 5).join("; ")}`);
  else context.health.report("ok");
}

function tell(context: Context, problem: string): void {
  context.health.report("degraded", `${problem}; tried again at each poll`);
  context.log.warn(problem, { code: "SOURCE_ABSENT" });
}

async function within<T>(context: Context, work: Promise<T>, signal: AbortSignal): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = context.clock.after(readTimeoutMs, () =>
    late.reject(new Error("no answer in 10 s")),
  );
  const stop = (): void => late.reject(new Error("stopped"));
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", stop);
  }
}

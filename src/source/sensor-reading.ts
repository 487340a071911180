/** What a driver finds. */
import type { SensorFiles } from "./sensor-files.ts";

/** One sensor: what it measured, and what could not be read of it. */
export interface Reading {
  readonly sensor: string;
  /** Empty: it has no event. */
  readonly quantities: Readonly<Record<string, number>>;
  readonly problem?: string;
}

/** `only`: names to read; empty: all. Resolves with what is there, an empty list when nothing is. */
export type Driver = (
  files: SensorFiles,
  root: string,
  only: ReadonlySet<string>,
) => Promise<readonly Reading[]>;

/** One value of a device that may have several of its kind. */
export interface Channel {
  readonly quantity: string;
  /** Tells it from others of its kind: a number or a label. */
  readonly suffix: string;
  /** Or why it cannot be read. */
  readonly value: number | string;
}

/** A quantity that a device has once goes by its plain name: `temperature`, not `temperature1`. */
export function readingOf(sensor: string, channels: readonly Channel[]): Reading {
  const quantities: Record<string, number> = {};
  const problems: string[] = [];
  for (const { quantity, suffix, value } of channels) {
    const isOnly = channels.filter((other) => other.quantity === quantity).length === 1;
    const name = isOnly ? quantity : `${quantity}${suffix}`;
    if (typeof value === "number") quantities[name] = rounded(value);
    else problems.push(`${name} ${value}`);
  }
  if (channels.length === 0) problems.push("it has no channel that is known here");
  return { sensor, quantities, ...(problems.length > 0 && { problem: problems.join(", ") }) };
}

/** Binary fractions such as 21.400000000000002 are the division's, not the sensor's. */
export function rounded(value: number): number {
  return Number(value.toPrecision(9));
}

/**
 * Industrial I/O (docs.kernel.org/admin-guide/abi-testing, sysfs-bus-iio): a channel is `_input`, already in its
 * unit, or `_raw`, for which (raw + offset) × scale gives it. The ABI's units are milli for most.
 */
import { join } from "node:path";
import { namesIn, numberOf, rounded, textOf, type Driver, type Reading } from "./sensor-reading.ts";

/** The ABI's type, our quantity, and what turns the ABI's unit into ours. */
const kinds: Readonly<Record<string, { readonly quantity: string; readonly factor: number }>> = {
  temp: { quantity: "temperature", factor: 0.001 },
  humidityrelative: { quantity: "humidity", factor: 0.001 },
  pressure: { quantity: "pressure", factor: 1000 },
  voltage: { quantity: "voltage", factor: 0.001 },
  current: { quantity: "current", factor: 0.001 },
  power: { quantity: "power", factor: 0.001 },
  illuminance: { quantity: "illuminance", factor: 1 },
  resistance: { quantity: "resistance", factor: 1 },
  concentration: { quantity: "concentration", factor: 1 },
  distance: { quantity: "distance", factor: 1 },
  proximity: { quantity: "proximity", factor: 1 },
};

export const readIio: Driver = async (root, only) => {
  const folder = join(root, "sys/bus/iio/devices");
  const readings: Reading[] = [];
  for (const device of await namesIn(folder)) {
    if (!/^iio:device\d+$/.test(device)) continue;
    const path = join(folder, device);
    const sensor =
      (await textOf(join(path, "label"))) ?? (await textOf(join(path, "name"))) ?? device;
    // Two chips of one kind have one name: the number tells them apart.
    const name = readings.some((one) => one.sensor === sensor)
      ? `${sensor}-${device.slice(10)}`
      : sensor;
    if (only.size > 0 && !only.has(name)) continue;
    const quantities = await channelsOf(path);
    if (Object.keys(quantities).length > 0) readings.push({ sensor: name, quantities });
    else readings.push({ sensor: name, problem: "no channel can be read" });
  }
  return readings;
};

async function channelsOf(path: string): Promise<Record<string, number>> {
  const quantities: Record<string, number> = {};
  for (const file of await namesIn(path)) {
    const match = /^in_([a-z]+)(\d*)(?:_([a-z0-9]+))?_(raw|input)$/.exec(file);
    const [, type = "", index = "", modifier, form] = match ?? [];
    const kind = kinds[type];
    if (kind === undefined) continue;
    const channel = file.slice(0, file.lastIndexOf("_"));
    const value = await numberOf(join(path, file));
    if (value === undefined) continue;
    const converted = form === "input" ? value : await scaled(path, channel, `in_${type}`, value);
    const suffix = `${index}${modifier === undefined ? "" : `_${modifier}`}`;
    quantities[`${kind.quantity}${suffix}`] = rounded(converted * kind.factor);
  }
  return quantities;
}

/** Offset and scale may be the channel's own or shared by all of its type. */
async function scaled(path: string, channel: string, shared: string, raw: number): Promise<number> {
  const either = async (what: string): Promise<number | undefined> =>
    (await numberOf(join(path, `${channel}_${what}`))) ??
    (await numberOf(join(path, `${shared}_${what}`)));
  return (raw + ((await either("offset")) ?? 0)) * ((await either("scale")) ?? 1);
}

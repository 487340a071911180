/**
 * Industrial I/O (docs.kernel.org/admin-guide/abi-testing, sysfs-bus-iio): a channel is `_input`, already in its
 * unit, or `_raw`, for which (raw + offset) × scale gives it. The ABI's units are milli for most.
 */
import { join } from "node:path";
import type { SensorFiles } from "./sensor-files.ts";
import { readingOf, type Channel, type Driver, type Reading } from "./sensor-reading.ts";

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

export const readIio: Driver = async (files, root, only) => {
  const folder = join(root, "sys/bus/iio/devices");
  const readings: Reading[] = [];
  for (const device of await files.names(folder)) {
    if (!/^iio:device\d+$/.test(device)) continue;
    const path = join(folder, device);
    const name =
      (await files.text(join(path, "label"))) ?? (await files.text(join(path, "name"))) ?? device;
    // Two chips of one kind have one name: the number tells them apart.
    const isTaken = readings.some((one) => one.sensor === name);
    const sensor = isTaken ? `${name}-${device.slice(10)}` : name;
    if (only.size > 0 && !only.has(sensor)) continue;
    readings.push(readingOf(sensor, await channelsOf(files, path)));
  }
  return readings;
};

async function channelsOf(files: SensorFiles, path: string): Promise<Channel[]> {
  const channels: Channel[] = [];
  const names = await files.names(path);
  for (const file of names) {
    const match = /^in_([a-z]+)(\d*)(?:_([a-z0-9]+))?_(raw|input)$/.exec(file);
    const [, type = "", index = "", modifier, form] = match ?? [];
    const kind = kinds[type];
    const channel = file.slice(0, file.lastIndexOf("_"));
    // Where the kernel has done the sum, its result is the better one.
    if (kind === undefined || (form === "raw" && names.includes(`${channel}_input`))) continue;
    const found = await files.number(join(path, file));
    /** Offset and scale may be the channel's own or shared by all of its type; left out, they change nothing. */
    const factor = async (what: string, none: number): Promise<number | undefined> => {
      const own = [`${channel}_${what}`, `in_${type}_${what}`].find((name) => names.includes(name));
      return own === undefined ? none : await files.number(join(path, own));
    };
    const offset = form === "input" ? 0 : await factor("offset", 0);
    const scale = form === "input" ? 1 : await factor("scale", 1);
    const isWhole = found !== undefined && offset !== undefined && scale !== undefined;
    const value = isWhole ? (found + offset) * scale * kind.factor : files.why(join(path, file));
    const suffix = `${index}${modifier === undefined ? "" : `_${modifier}`}`;
    channels.push({ quantity: kind.quantity, suffix, value });
  }
  return channels;
}

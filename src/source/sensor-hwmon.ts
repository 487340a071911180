/** Hardware monitors (docs.kernel.org/hwmon/sysfs-interface.html): milli-°C, mV, mA, µW, rpm, milli-%. */
import { join } from "node:path";
import type { SensorFiles } from "./sensor-files.ts";
import { readingOf, type Channel, type Driver, type Reading } from "./sensor-reading.ts";

const kinds: Readonly<Record<string, { readonly quantity: string; readonly factor: number }>> = {
  temp: { quantity: "temperature", factor: 0.001 },
  in: { quantity: "voltage", factor: 0.001 },
  curr: { quantity: "current", factor: 0.001 },
  power: { quantity: "power", factor: 0.000_001 },
  fan: { quantity: "fan", factor: 1 },
  humidity: { quantity: "humidity", factor: 0.001 },
};

export const readHwmon: Driver = async (files, root, only) => {
  const folder = join(root, "sys/class/hwmon");
  const readings: Reading[] = [];
  for (const monitor of await files.names(folder)) {
    const path = join(folder, monitor);
    const name = (await files.text(join(path, "name"))) ?? monitor;
    const sensor = readings.some((one) => one.sensor === name) ? `${name}-${monitor}` : name;
    if (only.size > 0 && !only.has(sensor)) continue;
    const channels = await channelsOf(files, path);
    // Many chips have alarms or a fan's speed to set, and nothing to measure: no fault of theirs.
    if (channels.length > 0 || only.has(sensor)) readings.push(readingOf(sensor, channels));
  }
  return readings;
};

async function channelsOf(files: SensorFiles, path: string): Promise<Channel[]> {
  const channels: Channel[] = [];
  const names = await files.names(path);
  for (const file of names) {
    const match = /^([a-z]+)(\d+)_input$/.exec(file);
    const kind = kinds[match?.[1] ?? ""];
    if (kind === undefined) continue;
    const beside = (what: string): string => file.replace("_input", what);
    const label = names.includes(beside("_label"))
      ? await files.text(join(path, beside("_label")))
      : undefined;
    const suffix = label === undefined ? (match?.[2] ?? "") : `_${label.replaceAll(/\W+/g, "_")}`;
    const isFaulty =
      names.includes(beside("_fault")) && (await files.number(join(path, beside("_fault")))) === 1;
    const found = isFaulty ? undefined : await files.number(join(path, file));
    const problem = isFaulty ? "is faulty, the kernel says" : files.why(join(path, file));
    const value = found === undefined ? problem : found * kind.factor;
    channels.push({ quantity: kind.quantity, suffix, value });
  }
  return channels;
}

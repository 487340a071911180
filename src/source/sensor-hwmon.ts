/** Hardware monitors (docs.kernel.org/hwmon/sysfs-interface.html): milli-°C, mV, mA, µW, rpm, milli-%. */
import { join } from "node:path";
import { namesIn, numberOf, rounded, textOf, type Driver, type Reading } from "./sensor-reading.ts";

const kinds: Readonly<Record<string, { readonly quantity: string; readonly factor: number }>> = {
  temp: { quantity: "temperature", factor: 0.001 },
  in: { quantity: "voltage", factor: 0.001 },
  curr: { quantity: "current", factor: 0.001 },
  power: { quantity: "power", factor: 0.000_001 },
  fan: { quantity: "fan", factor: 1 },
  humidity: { quantity: "humidity", factor: 0.001 },
};

export const readHwmon: Driver = async (root, only) => {
  const folder = join(root, "sys/class/hwmon");
  const readings: Reading[] = [];
  for (const monitor of await namesIn(folder)) {
    const path = join(folder, monitor);
    const name = (await textOf(join(path, "name"))) ?? monitor;
    const sensor = readings.some((one) => one.sensor === name) ? `${name}-${monitor}` : name;
    if (only.size > 0 && !only.has(sensor)) continue;
    const quantities = await inputsOf(path);
    if (Object.keys(quantities).length > 0) readings.push({ sensor, quantities });
    else readings.push({ sensor, problem: "no input can be read" });
  }
  return readings;
};

async function inputsOf(path: string): Promise<Record<string, number>> {
  const quantities: Record<string, number> = {};
  for (const file of await namesIn(path)) {
    const match = /^([a-z]+)(\d+)_input$/.exec(file);
    const kind = kinds[match?.[1] ?? ""];
    const value = kind === undefined ? undefined : await numberOf(join(path, file));
    // The kernel's own words for "this sensor is faulty".
    const fault = await numberOf(join(path, file.replace("_input", "_fault")));
    if (kind === undefined || value === undefined || fault === 1) continue;
    const label = await textOf(join(path, file.replace("_input", "_label")));
    const suffix = label === undefined ? (match?.[2] ?? "") : `_${label.replaceAll(/\W+/g, "_")}`;
    quantities[`${kind.quantity}${suffix}`] = rounded(value * kind.factor);
  }
  return quantities;
}

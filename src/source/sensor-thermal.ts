/** Thermal zones (docs.kernel.org/driver-api/thermal/sysfs-api.html): milli-°C. */
import { join } from "node:path";
import { readingOf, type Driver, type Reading } from "./sensor-reading.ts";

export const readThermal: Driver = async (files, root, only) => {
  const folder = join(root, "sys/class/thermal");
  const readings: Reading[] = [];
  for (const zone of await files.names(folder)) {
    if (!/^thermal_zone\d+$/.test(zone)) continue;
    const type = (await files.text(join(folder, zone, "type"))) ?? zone;
    const sensor = readings.some((one) => one.sensor === type) ? `${type}-${zone.slice(12)}` : type;
    if (only.size > 0 && !only.has(sensor)) continue;
    const path = join(folder, zone, "temp");
    const milli = await files.number(path);
    const value = milli === undefined ? files.why(path) : milli / 1000;
    readings.push(readingOf(sensor, [{ quantity: "temperature", suffix: "", value }]));
  }
  return readings;
};

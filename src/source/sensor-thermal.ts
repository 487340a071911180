/** Thermal zones (docs.kernel.org/driver-api/thermal/sysfs-api.html): milli-°C. */
import { join } from "node:path";
import { namesIn, numberOf, rounded, textOf, type Driver, type Reading } from "./sensor-reading.ts";

export const readThermal: Driver = async (root, only) => {
  const folder = join(root, "sys/class/thermal");
  const readings: Reading[] = [];
  for (const zone of await namesIn(folder)) {
    if (!/^thermal_zone\d+$/.test(zone)) continue;
    const type = (await textOf(join(folder, zone, "type"))) ?? zone;
    const sensor = readings.some((one) => one.sensor === type) ? `${type}-${zone.slice(12)}` : type;
    if (only.size > 0 && !only.has(sensor)) continue;
    const milli = await numberOf(join(folder, zone, "temp"));
    if (milli === undefined) readings.push({ sensor, problem: "gives no reading" });
    else readings.push({ sensor, quantities: { temperature: rounded(milli / 1000) } });
  }
  return readings;
};

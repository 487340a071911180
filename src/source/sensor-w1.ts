/**
 * 1-Wire thermometers (DS18S20, DS1822, DS18B20, DS1825, DS28EA00) by the kernel's w1_therm: the file w1_slave
 * holds the scratchpad twice, its CRC check, and milli-°C (docs.kernel.org/w1/slaves/w1_therm.html).
 */
import { join } from "node:path";
import { readingOf, type Driver, type Reading } from "./sensor-reading.ts";

/** Family codes of thermometers, the first byte of a device's ROM. */
const families = /^(10|22|28|3b|42)-[0-9a-f]{12}$/;

export const readW1: Driver = async (files, root, only) => {
  const folder = join(root, "sys/bus/w1/devices");
  const names = (await files.names(folder)).filter((name) => families.test(name));
  const chosen = names.filter((name) => only.size === 0 || only.has(name));
  const readings: Reading[] = [];
  // One after the other: the wire is one, and a conversion on parasite power must not be disturbed.
  for (const sensor of chosen) {
    const path = join(folder, sensor, "w1_slave");
    const text = await files.text(path);
    const value = text === undefined ? files.why(path) : judge(sensor, text);
    readings.push(readingOf(sensor, [{ quantity: "temperature", suffix: "", value }]));
  }
  return readings;
};

/** °C, or what is wrong with it. */
function judge(sensor: string, text: string): number | string {
  const lines = text.split("\n");
  const bytes = lines[0]?.match(/^((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (YES|NO)/);
  const milli = /t=(-?\d+)$/.exec(lines[1] ?? "")?.[1];
  if (!bytes || milli === undefined) return "gives no reading";
  const scratchpad = bytes[1]?.trim().split(" ") ?? [];
  if (bytes[2] !== "YES") return "has a wrong CRC: a bad contact or a cable too long";
  // A wire held low reads as zeros, whose CRC is zero and right.
  if (scratchpad.every((byte) => byte === "00")) return "is all zeros: the wire is held low";
  if (isPowerOn(sensor, scratchpad)) {
    return "is 85 °C, the power-on value: the conversion did not happen";
  }
  const celsius = Number(milli) / 1000;
  // The data sheets' range; beyond it a chip of another kind answers.
  return celsius >= -55 && celsius <= 125 ? celsius : `is ${celsius} °C, beyond -55 to 125`;
}

/**
 * DS18B20 data sheet: the temperature register holds 0550h (+85 °C) after power-on, and byte 6, reserved, is 0Ch
 * then; a conversion that really found 85 °C leaves another value there (10h less the low nibble). A DS18S20 that
 * really has 85.0 °C cannot be told from one that was just switched on, and is refused.
 */
function isPowerOn(sensor: string, scratchpad: readonly string[]): boolean {
  if (sensor.startsWith("10-")) return scratchpad[0] === "aa" && scratchpad[1] === "00";
  return scratchpad[0] === "50" && scratchpad[1] === "05" && scratchpad[6] === "0c";
}

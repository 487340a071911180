/** The telemetry that the benches write. */
import { noHeaders, type NewEvent } from "../../src/core/event.ts";

const devices = Array.from({ length: 8 }, (_, index) => `e${index + 1}`);
const headers = new Map(
  devices.map((device) => [device, { topic: `greenhouse/${device}/env`, device }]),
);

/** About 90 bytes of JSON of one of eight devices; floats that wander, no two alike. */
export function reading(n: number): NewEvent {
  const at = 1_780_000_000_000 + n * 7;
  const device = devices[n % devices.length] ?? "";
  const temperature = 21 + Math.sin(n / 97) * 6 + Math.sin(n * 12.9898) * 0.3;
  const humidity = 55 + Math.cos(n / 131) * 20 + Math.sin(n * 78.233) * 0.5;
  const json = `{"device":"${device}","ts":${at},"temperature":${temperature.toFixed(3)},"humidity":${humidity.toFixed(3)},"n":${n}}`;
  const more = headers.get(device) ?? noHeaders;
  return { key: device, time: at, receivedAt: at, headers: more, payload: Buffer.from(json) };
}

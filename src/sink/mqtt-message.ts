/** What goes with an event to a broker: its name and time as user properties of MQTT 5. */
import type { StoredEvent } from "../core/event.ts";
import { isoTime } from "./envelope.ts";

/** MQTT 5, 1.5.7: the longest that a name or a value may be. */
const textBytesMax = 65_535;

/** Names and values in turn. [MQTT-3.3.2-17]: the broker gives them on as they are, in their order. */
export function userPropertiesOf(
  { epoch, stream, seq, time, headers }: StoredEvent,
  device: string,
  isBackfill: boolean,
): string[] {
  const properties = ["device", device, "epoch", epoch, "stream", stream, "seq", String(seq)];
  const at = isoTime(time);
  if (at !== null) properties.push("time", at);
  if (isBackfill) properties.push("backfill", "true");
  // W3C Trace Context for MQTT, 3: as user properties under these names.
  for (const name of ["traceparent", "tracestate"] as const) {
    const value = headers[name];
    if (value !== undefined && value.length * 3 <= textBytesMax) properties.push(name, value);
  }
  return properties;
}

/** What the status topic keeps. The will is left with the broker before anything happens: it has no time. */
export function statusMessage(device: string, status: "online" | "offline", at?: number): string {
  return JSON.stringify({ device, status, ...(at !== undefined && { at: isoTime(at) }) });
}

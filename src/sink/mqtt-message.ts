/** What goes with an event to a broker: its name and time as user properties of MQTT 5, and what a PUBLISH weighs. */
import type { StoredEvent } from "../core/event.ts";
import { isoTime } from "./envelope.ts";

/** [MQTT-3.3.2-17]: the broker gives them on as they are, in their order. */
export function userPropertiesOf(
  { epoch, stream, seq, time, headers }: StoredEvent,
  device: string,
  isBackfill: boolean,
): Record<string, string> {
  const { traceparent, tracestate } = headers;
  const at = isoTime(time);
  return {
    device,
    epoch,
    stream,
    seq: String(seq),
    ...(at !== null && { time: at }),
    ...(isBackfill && { backfill: "true" }),
    // W3C Trace Context for MQTT, 3: as user properties under these names.
    ...(traceparent !== undefined && { traceparent }),
    ...(tracestate !== undefined && { tracestate }),
  };
}

/** MQTT 5, 3.3: the most that a PUBLISH of this can have, bytes. */
export function publishBytes(
  topic: string,
  userProperties: Readonly<Record<string, string | readonly string[]>>,
  payloadBytes: number,
): number {
  // 1.5.5: remaining length and property length have at most 4 bytes; 1.5.7: a pair has two lengths of 2 bytes.
  let bytes = 1 + 4 + 2 + Buffer.byteLength(topic) + 2 + 4 + payloadBytes;
  for (const [name, value] of Object.entries(userProperties)) {
    bytes += 1 + 2 + Buffer.byteLength(name) + 2 + Buffer.byteLength(String(value));
  }
  return bytes;
}

/** What the status topic keeps. The will is left with the broker before anything happens: it has no time. */
export function statusMessage(device: string, status: "online" | "offline", at?: number): string {
  return JSON.stringify({ device, status, ...(at !== undefined && { at: isoTime(at) }) });
}

/**
 * Events as CloudEvents 1.0 in JSON batch format: `source` is /DEVICE/EPOCH/STREAM and `id` the seq, which together
 * name an event for ever, as CloudEvents asks (1.0.2, `id`); `subject` is the key, `data` the payload byte for byte.
 *
 * Extensions: `receivedtime`, `clock` where it was not in sync, and `traceparent` and `tracestate` of the headers.
 * Other headers have no place: an extension's name may hold no more than letters and digits.
 */
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { isoTime, payloadText } from "./envelope.ts";

const base64 = /^\{"base64":("[A-Za-z0-9+/=]*")\}$/;

export function formatCloudEvents(
  events: readonly StoredEvent[],
  device: string,
  format: PayloadFormat | undefined,
): Buffer {
  const parts: (string | Buffer)[] = [];
  for (const event of events) {
    const payload = payloadText(event.payload, format);
    parts.push(parts.length === 0 ? "[" : ",", headOf(event, device));
    const bytes = typeof payload === "string" ? base64.exec(payload) : null;
    if (bytes === null) parts.push(`,"datacontenttype":"application/json","data":`, payload, "}");
    else parts.push(`,"data_base64":${bytes[1]}}`);
  }
  parts.push(parts.length === 0 ? "[]" : "]");
  return Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
}

/** Everything before the data; no brace closes it. */
function headOf(event: StoredEvent, device: string): string {
  const { stream, epoch, seq, key, headers } = event;
  const source = `/${[device, epoch, stream].map(encodeURIComponent).join("/")}`;
  const time = isoTime(event.time);
  const attributes = {
    specversion: "1.0",
    id: String(seq),
    source,
    type: `holdfast.${stream}`,
    ...(key !== null && key !== "" && { subject: key }),
    ...(time !== null && { time }),
    receivedtime: isoTime(event.receivedAt) ?? "",
    ...(event.clock !== "synced" && { clock: event.clock }),
    ...(headers["traceparent"] !== undefined && { traceparent: headers["traceparent"] }),
    ...(headers["tracestate"] !== undefined && { tracestate: headers["tracestate"] }),
  };
  return JSON.stringify(attributes).slice(0, -1);
}

/**
 * An event as one line of NDJSON: its name, its times, and its payload as the sender wrote it.
 *
 * A JSON payload is spliced in byte for byte, not parsed and printed again: numbers keep their digits, members
 * their order. It is checked first, because a format may have been changed since the event was stored, and one
 * bad line spoils a file. Text becomes a JSON string; what is neither becomes `{"base64":"…"}`.
 */
import { isUtf8 } from "node:buffer";
import type { Headers, PayloadFormat, StoredEvent } from "../core/event.ts";

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf]);
/** ECMA-262, 21.4.1.1: the times that a Date can hold. */
const dateMsMax = 8.64e15;

/** Lines of `events`, in one buffer. */
export function formatEnvelopes(
  events: readonly StoredEvent[],
  device: string,
  format: PayloadFormat | undefined,
): Buffer {
  const heads: string[] = [];
  const payloads: (string | Buffer)[] = [];
  // Three bytes of UTF-8 for each UTF-16 unit at the most.
  let bytesMax = 0;
  const head = headWriter(device);
  for (const event of events) {
    const text = head(event);
    const payload = payloadText(event.payload, format);
    heads.push(text);
    payloads.push(payload);
    bytesMax +=
      text.length * 3 + (typeof payload === "string" ? payload.length * 3 : payload.length) + 2;
  }
  const lines = Buffer.allocUnsafe(bytesMax);
  let end = 0;
  for (const [index, payload] of payloads.entries()) {
    end += lines.write(heads[index] ?? "", end, "utf8");
    end +=
      typeof payload === "string" ? lines.write(payload, end, "utf8") : payload.copy(lines, end);
    lines[end++] = 0x7d;
    lines[end++] = lineFeed;
  }
  return lines.subarray(0, end);
}

/** Everything before the payload. Neighbours share epoch, headers and often the second: each is printed once. */
function headWriter(device: string): (event: StoredEvent) => string {
  const deviceText = JSON.stringify(device);
  let epoch = "";
  let stream = "";
  let start = "";
  let headers: Headers | undefined;
  let headersText = "";
  const time = timePrinter();
  const receivedAt = timePrinter();
  return (event) => {
    if (event.epoch !== epoch || event.stream !== stream) {
      ({ epoch, stream } = event);
      start = `{"device":${deviceText},"epoch":${JSON.stringify(epoch)},"stream":${JSON.stringify(stream)},"seq":`;
    }
    if (event.headers !== headers) {
      ({ headers } = event);
      headersText = JSON.stringify(headers);
    }
    const clock = event.clock === "synced" ? "" : `,"clock":"${event.clock}"`;
    const key = event.key === null ? "null" : JSON.stringify(event.key);
    return `${start}${event.seq},"time":${time(event.time)},"receivedAt":${receivedAt(event.receivedAt)}${clock},"key":${key},"headers":${headersText},"payload":`;
  };
}

/** ISO 8601 in quotes, or null. */
function timePrinter(): (ms: number) => string {
  let last = Number.NaN;
  let text = "null";
  return (ms) => {
    if (ms !== last) {
      last = ms;
      text = JSON.stringify(isoTime(ms));
    }
    return text;
  };
}

/** ISO 8601; null: no date can hold it. */
export function isoTime(ms: number): string | null {
  return Math.abs(ms) <= dateMsMax ? new Date(ms).toISOString() : null;
}

/** The lines of `formatEnvelopes` as one JSON array. */
export function asArray(lines: Buffer): Buffer {
  // No line has a line feed within.
  for (let at = lines.indexOf(lineFeed); at >= 0; at = lines.indexOf(lineFeed, at + 1)) {
    lines[at] = 0x2c;
  }
  return Buffer.concat([Buffer.from("["), lines.subarray(0, -1), Buffer.from("]")]);
}

/** A payload as JSON on one line. */
export function payloadText(
  payload: Uint8Array,
  format: PayloadFormat | undefined,
): string | Buffer {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (format === "bytes" || !isUtf8(bytes)) return `{"base64":"${bytes.toString("base64")}"}`;
  const text = bytes.toString("utf8");
  if (format === "text") return JSON.stringify(text);
  try {
    // RFC 8259, section 8.1: a parser may ignore a byte order mark; inside a line it would be an error.
    const hasMark = bytes.subarray(0, 3).equals(byteOrderMark);
    JSON.parse(hasMark ? text.slice(1) : text);
    return oneLine(hasMark ? bytes.subarray(3) : bytes);
  } catch {
    return JSON.stringify(text);
  }
}

/** Inside JSON's strings a line end is always escaped (RFC 8259, section 7); elsewhere it is white space. */
function oneLine(json: Buffer): Buffer {
  if (!json.includes(lineFeed) && !json.includes(carriageReturn)) return json;
  return Buffer.from(
    json.map((byte) => (byte === lineFeed || byte === carriageReturn ? space : byte)),
  );
}

/** Events as the body of one request: NDJSON, a JSON array or a batch of CloudEvents; plain or compressed. */
import { promisify } from "node:util";
import { gzip, zstdCompress } from "node:zlib";
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { formatCloudEvents } from "./cloud-events.ts";
import { asArray, formatEnvelopes } from "./envelope.ts";

export const bodyFormats = ["ndjson", "json", "cloudevents"] as const;
export type BodyFormat = (typeof bodyFormats)[number];

/** No RFC names one for NDJSON: this one is what most servers ask for. CloudEvents: HTTP binding 1.0.2, 3.3. */
const contentTypes: Readonly<Record<BodyFormat, string>> = {
  ndjson: "application/x-ndjson",
  json: "application/json",
  cloudevents: "application/cloudevents-batch+json; charset=UTF-8",
};

export interface Body {
  readonly bytes: Buffer;
  readonly contentType: string;
}

export function formatBody(
  as: BodyFormat,
  events: readonly StoredEvent[],
  device: string,
  format: PayloadFormat | undefined,
): Body {
  const contentType = contentTypes[as];
  if (as === "cloudevents")
    return { bytes: formatCloudEvents(events, device, format), contentType };
  const lines = formatEnvelopes(events, device, format);
  return { bytes: as === "json" ? asArray(lines) : lines, contentType };
}

export const compressions = ["gzip", "zstd", "none"] as const;
export type Compression = (typeof compressions)[number];

const compressors = { gzip: promisify(gzip), zstd: promisify(zstdCompress) };

/** In libuv's threads; with the header that says so. */
export async function compressBody(
  bytes: Buffer,
  compression: Compression,
): Promise<{ readonly bytes: Buffer; readonly headers: Readonly<Record<string, string>> }> {
  if (compression === "none") return { bytes, headers: {} };
  return {
    bytes: await compressors[compression](bytes),
    headers: { "content-encoding": compression },
  };
}

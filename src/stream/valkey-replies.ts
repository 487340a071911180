/** What the scripts and commands answer, as values. */
import type { Delivery } from "./backend.ts";
import type { Reply } from "../valkey/connection.ts";

/** ID, deliveries, failures, fields for each. */
export function deliveriesOf(rows: readonly Reply[]): Delivery[] {
  return (rows as [Buffer, number, Buffer, Buffer[]][]).map(
    ([id, deliveries, failures, fields]) => ({
      id: String(id),
      fields,
      deliveries,
      failures: Number(String(failures)) || 0,
    }),
  );
}

/** A flat list of names and values, as XINFO gives it. */
export function infoOf(row: Reply): Record<string, Reply> {
  const info: Record<string, Reply> = {};
  const list = row as readonly Reply[];
  for (let at = 0; at + 1 < list.length; at += 2) info[String(list[at])] = list[at + 1] ?? null;
  return info;
}

/**
 * Entries that a group was not given yet; null: Redis 7 and Valkey tell it, unless entries were deleted amid. A group that
 * is at the end has none, whatever they say: of how many it has read their append-only file knows no more than when it was
 * last written anew.
 */
export function waitingOf(
  topic: Readonly<Record<string, Reply>>,
  group: Readonly<Record<string, Reply>> | null,
): number | null {
  if (group === null) return null;
  if (String(group["last-delivered-id"]) === String(topic["last-generated-id"])) return 0;
  const lag = group["lag"];
  return typeof lag === "number" ? lag : null;
}

/** A state value without its end before it (valkey-scripts.ts, `settle`); null: that has come. */
export function valueOf(found: Buffer, nowMs: number): Uint8Array | null {
  const colon = found.indexOf(0x3a);
  const ends = Number(found.subarray(0, colon).toString());
  return ends > 0 && ends <= nowMs ? null : found.subarray(colon + 1);
}

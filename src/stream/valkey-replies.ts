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

/** A settlement as the keys and arguments of its script (valkey-scripts.ts, `settle`). */
import type { EncodedFields } from "../wire/wire.ts";
import type { Settlement } from "./backend.ts";
import type { Argument } from "../valkey/connection.ts";
import { expiriesKey, stateKey } from "./valkey-keys.ts";

interface SettleParts {
  readonly topic: string;
  readonly group: string;
  readonly consumer: string;
  readonly retries: string;
  readonly nowMs: number;
}

export function settleArguments(
  settlement: Settlement,
  parts: SettleParts,
): { keys: string[]; args: Argument[] } {
  const { topic, group, consumer, retries, nowMs } = parts;
  const keys = [topic, retries, stateKey(group, topic), expiriesKey(group, topic)];
  const indexes = new Map<string, number>();
  const indexOf = (written: string): number => {
    let index = indexes.get(written);
    if (index === undefined) {
      index = keys.push(written);
      indexes.set(written, index);
    }
    return index;
  };
  const { done, failed, moved, effects } = settlement;
  const args: Argument[] = [group, consumer, effects === undefined ? "" : "1", Math.floor(nowMs)];
  args.push(done.length, ...done);
  args.push(failed.length);
  for (const { id, failures } of failed) args.push(id, failures);
  args.push(moved.length);
  for (const { id, topic: to, fields } of moved) args.push(id, indexOf(to), ...counted(fields));
  args.push(effects?.reads.length ?? 0);
  for (const { key, value } of effects?.reads ?? []) args.push(key, ...flagged(value));
  args.push(effects?.writes.length ?? 0);
  for (const { key, value, expiresAt } of effects?.writes ?? []) {
    args.push(key, ...flagged(value), Math.floor(expiresAt ?? 0));
  }
  args.push(effects?.emits.length ?? 0);
  for (const { topic: to, fields } of effects?.emits ?? [])
    args.push(indexOf(to), ...counted(fields));
  return { keys, args };
}

function counted(fields: EncodedFields): Argument[] {
  return [fields.length, ...fields];
}

function flagged(value: Uint8Array | null): Argument[] {
  return value === null ? ["", ""] : ["1", value];
}

/** A topic in process memory, and its groups: what MemoryBackend and its members share. */
import type { Waiters } from "../core/waiters.ts";
import type * as contract from "./backend.ts";
import { compareIds } from "./entry-id.ts";

export interface Pending {
  readonly entry: contract.Entry;
  consumer: string;
  sinceMs: number;
  deliveries: number;
  failures: number;
}

export interface Group {
  incarnation: string;
  /** Everything up to here was handed out. */
  last: string;
  readonly pending: Map<string, Pending>;
  /** In the order in which they joined. */
  readonly members: Set<string>;
}

export interface Topic {
  entries: contract.Entry[];
  lastMs: number;
  lastN: number;
  readonly groups: Map<string, Group>;
  readonly producers: Map<string, number>;
  readonly waiters: Waiters;
}

export function makeRoom(topic: Topic, count: number, most: number): boolean {
  const over = topic.entries.length + count - most;
  if (over <= 0) return true;
  let free = over;
  for (const group of topic.groups.values()) {
    const [oldest] = [...group.pending.keys()].sort(compareIds);
    const passed =
      oldest === undefined ? indexBehind(topic, group.last) : indexBehind(topic, oldest) - 1;
    free = Math.min(free, Math.max(0, passed));
  }
  topic.entries.splice(0, free);
  return free >= over;
}

/** Where the first entry behind `id` stands. */
export function indexBehind(topic: Topic, id: string): number {
  let [low, high] = [0, topic.entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareIds((topic.entries[middle] as contract.Entry).id, id) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

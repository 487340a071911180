import type { Headers } from "../core/event.ts";

/** Whether an event is meant for a group: one that went back from the dead letters to a sink (redeliver.ts) is for it alone. */
export function isFor(group: string, { replayFor }: Headers): boolean {
  return replayFor === undefined || replayFor === group;
}

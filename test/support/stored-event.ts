/** An event in its place, with what a test does not care about filled in. */
import type { StoredEvent } from "../../src/core/event.ts";

export const testEpoch = "5eed0000-0000-4000-8000-00000000000a";

export function storedEvent(given: Partial<StoredEvent> = {}): StoredEvent {
  const seq = given.seq ?? 1;
  return {
    stream: "readings",
    seq,
    epoch: testEpoch,
    clock: "synced",
    key: null,
    time: Date.UTC(2026, 0, 1) + seq,
    receivedAt: Date.UTC(2026, 0, 1) + seq + 5,
    headers: {},
    payload: Buffer.from(`{"n":${seq}}`),
    ...given,
  };
}

/** `count` events of one stream, from `first`. */
export function storedEvents(
  first: number,
  count: number,
  given: Partial<StoredEvent> = {},
): StoredEvent[] {
  return Array.from({ length: count }, (_, index) => storedEvent({ ...given, seq: first + index }));
}

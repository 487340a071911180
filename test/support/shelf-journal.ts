/** A journal for those who only look at one: streams are arrays, and nothing is written but what a test puts there. */
import type { StoredEvent } from "../../src/core/event.ts";
import type { DeadLetter, GroupStatus, Journal, JournalUpkeep } from "../../src/journal/journal.ts";

export interface ShelfJournal extends Journal, JournalUpkeep {
  /** Adds events to their stream and tells it. */
  put(...events: StoredEvent[]): void;
  readonly letters: DeadLetter[];
  readonly groups: GroupStatus[];
  /** The largest page that was asked for. */
  readonly largestRead: () => number;
  /** How many listen for appends. */
  readonly listeners: () => number;
}

export function shelfJournal(): ShelfJournal {
  const streams = new Map<string, StoredEvent[]>();
  const listeners = new Set<(stream: string, head: number) => void>();
  const letters: DeadLetter[] = [];
  const groups: GroupStatus[] = [];
  let largestRead = 0;
  const never = (): never => {
    throw new Error("A shelf is only looked at");
  };
  const headOf = (stream: string): number => streams.get(stream)?.at(-1)?.seq ?? 0;
  const firstOf = (stream: string): number => streams.get(stream)?.[0]?.seq ?? headOf(stream) + 1;
  return {
    letters,
    groups,
    largestRead: () => largestRead,
    listeners: () => listeners.size,
    put(...events) {
      for (const event of events) {
        streams.set(event.stream, [...(streams.get(event.stream) ?? []), event]);
      }
      for (const stream of new Set(events.map((event) => event.stream))) {
        for (const listener of listeners) listener(stream, headOf(stream));
      }
    },
    identity: () => ({ device: "greenhouse-1", epoch: "epoch", parent: null }),
    async read(stream, after, maxEvents) {
      largestRead = Math.max(largestRead, maxEvents);
      const events = (streams.get(stream) ?? []).filter((event) => event.seq > after);
      return { events: events.slice(0, maxEvents), first: firstOf(stream), head: headOf(stream) };
    },
    onAppended(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    status: () => ({
      streams: new Map(
        [...new Set([...streams.keys(), ...letters.map((letter) => letter.stream)])].map((name) => [
          name,
          {
            first: firstOf(name),
            head: headOf(name),
            bytes: (streams.get(name) ?? []).reduce((sum, event) => sum + event.payload.length, 0),
            deadLetters: letters.filter((letter) => letter.stream === name).length,
          },
        ]),
      ),
      groups,
      usedBytes: 0,
      fileBytes: 0,
      work: null,
      maxBytes: 1,
      full: false,
      failure: null,
    }),
    readDeadLetters: async (stream, limit) =>
      letters.filter((letter) => letter.stream === stream).slice(0, limit),
    async purgeDeadLetters(stream, ids) {
      const goes = (letter: DeadLetter): boolean =>
        letter.stream === stream && (ids?.includes(letter.id) ?? true);
      const kept = letters.filter((letter) => !goes(letter));
      const purged = letters.length - kept.length;
      letters.splice(0, letters.length, ...kept);
      return purged;
    },
    open: never,
    close: async () => undefined,
    append: never,
    appendDeadLetter: never,
    hasRoom: () => true,
    onRoom: () => () => undefined,
    commitSoon: never,
    commit: never,
    cursor: never,
    readState: never,
    readStates: never,
    readStateSpaces: async () => [],
    readEndedStates: never,
    readRetries: never,
    readPacketIds: never,
    releasePacketId: never,
    forgetPacketIds: never,
    check: never,
    compact: never,
  };
}

export function deadLetter(given: Partial<DeadLetter> = {}): DeadLetter {
  return {
    id: 1,
    stream: "readings",
    seq: null,
    origin: "source",
    originName: "greenhouse",
    code: "EVENT_INVALID",
    reason: "Payload does not fit: temperature: expected a number, found a string",
    attempts: 1,
    firstFailedAt: Date.UTC(2026, 0, 1),
    lastFailedAt: Date.UTC(2026, 0, 1),
    key: null,
    time: Date.UTC(2026, 0, 1),
    headers: { topic: "greenhouse/e1/env" },
    payload: Buffer.from('{"temperature":"warm"}'),
    ...given,
  };
}

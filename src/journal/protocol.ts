/** What the two halves of the journal say to each other. */
import type { ClockQuality } from "../core/event.ts";
import type {
  CheckResult,
  CompactResult,
  Cursor,
  CursorMove,
  Damage,
  DeadLetter,
  EpochStart,
  GroupDeclaration,
  JournalIdentity,
  NewDeadLetter,
  PacketIdentifier,
  RetryRow,
  StateEntry,
  StateSpace,
  StreamStatus,
  UnitOfWork,
  Work,
} from "./journal.ts";

/** How the worker is to keep the file; given once, as workerData. */
export interface WorkerSetup {
  readonly path: string;
  readonly durability: "power-loss" | "crash";
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  readonly dropOldest: boolean;
  readonly device: string;
  readonly board: string | null;
  readonly bootId: string;
  readonly streams: ReadonlyMap<string, StreamQuota>;
  readonly groups: readonly GroupDeclaration[];
  /** Planted faults for the tests of the proofs; none in a running agent. */
  readonly fault?: "synchronous-off" | "settle-before-commit" | "no-reserve" | "folder-not-synced";
}

export interface StreamQuota {
  readonly maxBytes?: number;
  /** Its events' time to live. */
  readonly maxAgeMs?: number;
  /** Higher survives longer; left out: `priorityDefault`. */
  readonly priority?: number;
  /** Left out: the journal's. */
  readonly whenFull?: WhenFull;
  /** Under `thin` one event of each key is kept for each such interval. */
  readonly thinMs?: number;
}

export type WhenFull = "drop-oldest" | "reject" | "thin";
export const priorityDefault = 5;

/** The clocks at one moment, as the main thread reads them. */
export interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
  readonly clock: ClockQuality;
}

/** A stream and one packed section of events for it. */
export interface Section {
  readonly stream: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What sources handed over: may have to wait for room, stream by stream. */
export interface Intaken {
  readonly sections: readonly Section[];
  readonly letters: readonly NewDeadLetter[];
  readonly packets: readonly IntakenPacket[];
}

/** With the stream of its event, beside which it becomes durable. */
export interface IntakenPacket extends PacketIdentifier {
  readonly stream: string;
}

/** A unit of work whose emitted events are packed. */
export interface PackedUnit extends Omit<UnitOfWork, "emits"> {
  readonly cursors: readonly CursorMove[];
  readonly sections: readonly Section[];
}

/** Everything that waited when the disk became free: one transaction. */
export interface Turn {
  readonly intake: Intaken;
  readonly units: readonly PackedUnit[];
  readonly releases: readonly PacketIdentifier[];
  readonly forgets: readonly string[];
  readonly purges: readonly { readonly stream: string; readonly ids: readonly number[] | null }[];
  readonly now: Moment;
  /** The least quality that the clock had while this was packed. */
  readonly clock: ClockQuality;
  /** The row of `waiting` that its intake comes from. */
  readonly waited?: number;
}

export interface Dropped {
  readonly stream: string;
  readonly from: number;
  readonly to: number;
  /** How many of these were dropped. */
  readonly events: number;
  readonly reason: string;
}

/** How much room the journal's disk has for it (disk-room.ts). */
export interface DiskState {
  /** The file does not grow: others have filled the disk. */
  readonly isFull: boolean;
  readonly reserveBytes: number;
  /** What must be free for the file to grow again; 0 while it may. */
  readonly neededBytes: number;
}

/** `failed`: nothing of the turn happened; it comes back whole, to be tried again. */
export type TurnResult =
  | {
      readonly kind: "failed";
      readonly turn: Turn;
      /** For want of room, not for a disk that fails. */
      readonly full: boolean;
      readonly message: string;
      readonly disk: DiskState;
    }
  | {
      readonly kind: "done";
      /** The intake that found no room, to be tried again; null: it was taken. */
      readonly refusedIntake: Intaken | null;
      readonly units: readonly UnitResult[];
      readonly purged: readonly number[];
      readonly dropped: readonly Dropped[];
      /** 0 when there was nothing to write. */
      readonly commits: 0 | 1;
      readonly commitMs: number;
      readonly disk: DiskState;
      readonly figures: WorkerFigures;
    };

/** `error`: the unit could not be applied, and why. `waits`: it found no room and comes back, to be tried again. */
export type UnitResult =
  | { readonly committed: boolean }
  | { readonly error: string }
  | { readonly waits: PackedUnit };

export interface WorkerFigures {
  /** Streams that changed. */
  readonly streams: readonly (readonly [string, StreamStatus])[];
  /** Cursors that moved. */
  readonly cursors: readonly (readonly [group: string, stream: string, cursor: Cursor])[];
  /** Groups that are gone for good. */
  readonly forgotten: readonly string[];
  readonly usedBytes: number;
  /** On the disk, without the log; what is not used there comes back by compacting. */
  readonly fileBytes: number;
}

export interface ReadChunk {
  readonly first: number;
  readonly count: number;
  /** Of each event, where they do not follow each other. */
  readonly seqs: readonly number[] | null;
  readonly epoch: string;
  /** Where later epochs took over, ascending. */
  readonly later: readonly { readonly from: number; readonly epoch: string }[] | null;
  readonly clock: ClockQuality;
  readonly bootOffsetMs: number | null;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Requests beside turns; each has one answer. */
export interface Requests {
  turn: { ask: Turn; answer: TurnResult };
  read: {
    ask: { stream: string; after: number; maxEvents: number; maxBytes: number };
    answer: { chunks: ReadChunk[]; first: number; head: number; damaged: Damage[] };
  };
  state: { ask: { space: string; key: string }; answer: Uint8Array | null };
  retries: { ask: { group: string }; answer: RetryRow[] };
  states: { ask: { space: string; after: string | null; limit: number }; answer: StateEntry[] };
  endedStates: { ask: { space: string; nowMs: number; limit: number }; answer: string[] };
  stateSpaces: { ask: null; answer: StateSpace[] };
  deadLetters: { ask: { stream: string; limit: number; after: number }; answer: DeadLetter[] };
  packetIds: { ask: { source: string }; answer: PacketIdentifier[] };
  beginEpoch: { ask: EpochStart & { readonly wallMs: number }; answer: JournalIdentity };
  /** Both take long, and let turns and reads pass; one of them at a time. */
  check: { ask: null; answer: CheckResult };
  compact: { ask: null; answer: CompactResult };
  close: { ask: null; answer: null };
}
export type RequestKind = keyof Requests;

export interface Request<K extends RequestKind = RequestKind> {
  readonly id: number;
  readonly kind: K;
  readonly ask: Requests[K]["ask"];
}

/** First messages of the worker: open, or why not. */
export type Opening =
  /** Others have filled the disk: it is tried again, more messages follow. */
  | { readonly kind: "waiting"; readonly message: string; readonly disk: DiskState }
  | {
      readonly kind: "opened";
      readonly identity: JournalIdentity;
      readonly figures: WorkerFigures;
      readonly disk: DiskState;
      /** The file in its place was damaged: reads and units wait until news says that what was left is in. */
      readonly salvaging: string | null;
      /** Known to be gone. */
      readonly damaged: readonly Damage[];
      /** The file's log was gone: up to where each stream is known; null: it was not. */
      readonly lostAfter: ReadonlyMap<string, number> | null;
    }
  | { readonly kind: "refused"; readonly code: string; readonly message: string };

/** What the worker tells without being asked. */
export type News =
  | { readonly kind: "salvaging"; readonly file: string; readonly progress: number }
  | {
      readonly kind: "salvaged";
      readonly file: string;
      readonly identity: JournalIdentity;
      readonly figures: WorkerFigures;
      readonly damaged: readonly Damage[];
      /** Up to where each stream is known; what came after that, if anything did, is gone. */
      readonly heads: ReadonlyMap<string, number>;
    }
  /** Of a long work, 0 to 1; null: it has ended. */
  | { readonly kind: "working"; readonly what: Work; readonly progress: number | null }
  | { readonly kind: "checked"; readonly result: CheckResult };

export type Reply =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string; readonly code?: string };

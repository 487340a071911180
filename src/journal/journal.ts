/**
 * The journal: one SQLite file that holds everything durable. Everything else is a cursor over it.
 *
 * It promises:
 * - What `settled` or a resolved `commit` has told is on disk: fsync'd under `durability: power-loss`, in the
 *   page cache (safe from the death of the process, not of the power) under `durability: crash`.
 * - Commits are grouped: one transaction and one fsync for all that waits when the disk is free.
 * - Seq in each stream is dense, counts from 1, and is never used twice, also when everything was trimmed.
 * - A unit of work is durable as a whole or not at all, and only if the cursors it starts from still stand.
 * - Memory does not grow with what is kept; what waits for the disk is bounded (`hasRoom`).
 * - The main thread never waits for the disk: SQLite lives in a worker thread that alone owns the file.
 *
 * It does not promise to keep events for ever: see `JournalOptions.maxBytes` and `maxAge` (invariant 5).
 *
 * What is written and synced, in this order, and what a power cut behind each leaves (test/torture/power-cut.ts tries
 * them all):
 * - Folders and `journal.db` made, its header synced: nothing, an empty file, zeros or a header: a journal that was
 *   never begun. `-wal` made and synced with its folder: the same. Nothing was promised yet.
 * - The tables made in one transaction, the WAL synced: no tables, or all.
 * - The journal's folder and all above it synced, before it is "open": from here on its name is certain.
 * - A turn's frames written to the WAL: torn or missing ones end it by their checksums; the turn did not happen.
 * - The WAL synced; then the main thread is told, then the source acknowledges: the whole turn.
 * - A checkpoint (WAL synced, pages written, file synced, WAL begun again): pages torn in the file lie whole in the WAL.
 * - The start's first commit moved into the file: the file itself says that it is open, so who finds no WAL beside it
 *   knows that one is lost. Close removes the WAL: if it is still there it holds what the file holds.
 * - Before a migration `journal.db.backup-vN` is written and synced: the old file, the backup, or both.
 * - Compaction writes and syncs `journal.db.compact`, closes the old file, syncs the folder: the old file, whole; the
 *   next start removes the copy. The copy renamed, the folder synced: the old file or the new one, whole, and never the
 *   old one's log beside the new file.
 */
import type { HoldfastError } from "../core/errors.ts";
import type { Headers, NewEvent, StoredEvent } from "../core/event.ts";
import type { Pulse } from "../core/pulse.ts";

export interface Journal {
  /**
   * Opens or makes the file, migrates it, recovers, and registers which groups read which streams: what none of
   * them needs any more may be trimmed. A group that is new starts before the oldest event that is kept.
   * @throws HoldfastError JOURNAL_FOREIGN, JOURNAL_LOCKED, JOURNAL_UNAVAILABLE
   */
  open(groups: readonly GroupDeclaration[]): Promise<void>;
  /** Commits what waits, checkpoints, closes. May be called twice, and after a failed `open`. */
  close(): Promise<void>;

  identity(): JournalIdentity;

  /**
   * Takes one event for the next commit. The bytes are copied before this returns. `settled` is called once,
   * when the event is on disk, for each stream in the order of the calls; never when the journal closes or dies
   * before that.
   * With `packet` the packet identifier becomes durable in the same transaction.
   */
  append(stream: string, event: NewEvent, settled: Settled, packet?: PacketIdentifier): void;
  /** Like `append`, for an event that may not enter its stream. */
  appendDeadLetter(letter: NewDeadLetter, settled: Settled, packet?: PacketIdentifier): void;
  /**
   * False while what waits for the disk is at its bound or finds no room in the file, for the events of one stream
   * or, where none is named, of any: stop calling `append` until `onRoom` fires.
   */
  hasRoom(stream?: string): boolean;
  /** Calls `listener` each time that room returns. Gives back what removes it. */
  onRoom(listener: () => void): () => void;
  /** Commit what waits as soon as the disk is free, whatever `linger` says: a source's window is full. */
  commitSoon(): void;

  /**
   * Makes one unit of work durable.
   * `soon`: as soon as the disk is free; `linger`: within the usual linger; `idle`: rides on the next commit that
   * something else causes, after 5 s or the usual linger at the latest (a cursor that may be repeated costs nothing).
   */
  commit(unit: UnitOfWork, when: "soon" | "linger" | "idle"): Promise<UnitOutcome>;

  /**
   * Events of one stream after `after`, at most `maxEvents` and about `maxBytes` (at least one event if there is
   * any). `first` is the oldest seq kept: where it is past `after` + 1, what lies between was trimmed.
   */
  read(stream: string, after: number, maxEvents: number, maxBytes: number): Promise<ReadResult>;
  /** Calls `listener` after each commit that added to a stream. Gives back what removes it. */
  onAppended(listener: (stream: string, head: number) => void): () => void;

  /** Where a group stands in a stream: the last seq it has passed (0: none) and the mark kept with it. */
  cursor(group: string, stream: string): Cursor;
  /** What is known of all streams, groups and figures without asking the disk. */
  status(): JournalStatus;

  readState(space: string, key: string): Promise<Uint8Array | null>;
  /** Values of one space whose keys come behind `after`, in the order of their keys, at most `limit`. */
  readStates(space: string, after: string | null, limit: number): Promise<readonly StateEntry[]>;
  readStateSpaces(): Promise<readonly StateSpace[]>;
  /** Keys of one space whose values have had their time (core/expiring.ts), at most `limit`. */
  readEndedStates(space: string, nowMs: number, limit: number): Promise<readonly string[]>;
  readRetries(group: string): Promise<readonly RetryRow[]>;
  /** The oldest whose id is beyond `after` (0 where it is left out), at most `limit`. */
  readDeadLetters(stream: string, limit: number, after?: number): Promise<readonly DeadLetter[]>;
  /** Removes dead letters of a stream, all or those named; resolves with how many there were. */
  purgeDeadLetters(stream: string, ids?: readonly number[]): Promise<number>;

  /** MQTT packet identifiers of QoS 2 that were received and not released yet ([MQTT-4.3.3]). */
  readPacketIds(source: string): Promise<readonly PacketIdentifier[]>;
  /** Forgets one durably; `settled` when that is on disk. */
  releasePacketId(packet: PacketIdentifier, settled: Settled): void;
  /** Forgets all of a source durably: the broker has no session. */
  forgetPacketIds(source: string): Promise<void>;
}

/** What a person may ask of it; both take long, and it serves meanwhile. */
export interface JournalUpkeep {
  /**
   * Reads everything through while the journal serves: what is damaged is told here and as when a reader meets it.
   * @throws HoldfastError JOURNAL_BUSY while it, `compact` or a salvage is under way
   */
  check(): Promise<CheckResult>;
  /**
   * Gives the disk back what the file holds and does not use, while the journal serves. It takes as much free space
   * as is in use, and writes that once.
   * @throws HoldfastError JOURNAL_BUSY as `check`; JOURNAL_FULL without that space: nothing has changed
   */
  compact(): Promise<CompactResult>;
}

/** Who learns from outside that the history has forked. */
export interface JournalHistory {
  /**
   * Begins a new epoch, whose parent is the present one: for all that is committed from now on, and for what is kept
   * of the streams that `start` names, from a seq of each on. On disk when it resolves.
   * @throws HoldfastError JOURNAL_BUSY during a salvage
   */
  beginEpoch(start: EpochStart): Promise<JournalIdentity>;
}

export interface EpochStart {
  readonly from: ReadonlyMap<string, number>;
  readonly reason: string;
}

/** For whoever watches that it is alive. */
export interface JournalPulse {
  /**
   * A step is a turn that the worker has answered, well or badly, and one is owed while it is under way: a full or
   * failing disk answers each turn, a worker that hangs answers none. There is a turn every 5 s also when nothing comes in.
   */
  pulse(): Pulse;
}

export type WholeJournal = Journal & JournalUpkeep & JournalHistory & JournalPulse;

/** Long work between commits. */
export type Work = keyof JournalUpkeep;

export type Settled = () => void;

export interface PacketIdentifier {
  readonly source: string;
  /** 1 to 65,535 ([MQTT-2.2.1-3]). */
  readonly id: number;
  /** CRC-32 of what its message carried; null or left out: not known. */
  readonly digest?: number | null;
}

export interface GroupDeclaration {
  readonly group: string;
  readonly streams: readonly string[];
}

export interface JournalIdentity {
  /** Fixed when the journal was made. */
  readonly device: string;
  /** UUID of the present epoch. */
  readonly epoch: string;
  /** The epoch before it, or null for a first one. */
  readonly parent: string | null;
}

export interface Cursor {
  readonly seq: number;
  /** At most 1 KiB: a file sink's position, an upstream's answer; null: none. */
  readonly mark: string | null;
}

export interface CursorMove {
  readonly stream: string;
  /** Must be where the cursor stands, else the whole unit is refused. */
  readonly from: number;
  readonly to: number;
  /** Left out: the old mark stays. */
  readonly mark?: string | null;
}

/** Everything that one processed batch did. */
export interface UnitOfWork {
  readonly group: string;
  readonly cursors: readonly CursorMove[];
  readonly emits?: readonly { readonly stream: string; readonly event: NewEvent }[];
  /** null deletes. */
  readonly state?: readonly {
    readonly space: string;
    readonly key: string;
    readonly value: Uint8Array | null;
  }[];
  readonly retries?: {
    readonly put: readonly RetryRow[];
    readonly remove: readonly { readonly stream: string; readonly seq: number }[];
  };
  readonly deadLetters?: readonly NewDeadLetter[];
  /** The group is gone for good: nothing is known any more of where it stood, nor of what waited for another attempt. */
  readonly ends?: true;
  /** Dead letters that the unit takes out of their queue; if one is not there any more, all of it is refused. */
  readonly taken?: readonly { readonly stream: string; readonly id: number }[];
}

/** `refused`: the cursors have moved meanwhile, or a letter was taken; nothing of the unit happened. */
export type UnitOutcome = "committed" | "refused";

/** An event that failed and waits for another attempt, copied out of its stream (invariant 10). */
export interface RetryRow {
  readonly event: StoredEvent;
  /** How often it was tried; 0: it waits behind another of its key. */
  readonly attempts: number;
  /** Wall clock ms, of this device, when it may be tried again. */
  readonly dueAt: number;
  readonly firstFailedAt: number;
  readonly error: string;
}

export interface StateEntry {
  readonly key: string;
  readonly value: Uint8Array;
}

/** What one space of the state holds. */
export interface StateSpace {
  readonly space: string;
  readonly keys: number;
  /** Of keys and values. */
  readonly bytes: number;
}

/** Keys that are removed in one unit. */
const removedMax = 1_000;

/** Removes all that a space holds while nobody writes there; on disk when it resolves, with how many keys there were. */
export async function emptySpace(
  journal: Pick<Journal, "readStates" | "commit">,
  space: string,
): Promise<number> {
  for (let count = 0; ;) {
    const entries = await journal.readStates(space, null, removedMax);
    if (entries.length === 0) return count;
    const state = entries.map(({ key }) => ({ space, key, value: null }));
    await journal.commit({ group: `state:${space}`, cursors: [], state }, "soon");
    count += entries.length;
  }
}

export interface NewDeadLetter {
  /** The stream that it was to enter, or that it came from. */
  readonly stream: string;
  /** Its place there; null when it never entered. */
  readonly seq: number | null;
  readonly origin: "source" | "processor" | "sink";
  /** The name of that source, processor or sink. */
  readonly originName: string;
  readonly code: string;
  readonly reason: string;
  readonly attempts: number;
  readonly firstFailedAt: number;
  readonly lastFailedAt: number;
  readonly key: string | null;
  readonly time: number;
  readonly headers: Headers;
  /** As received. */
  readonly payload: Uint8Array;
}

export interface DeadLetter extends NewDeadLetter {
  /** Unique in the journal, grows. */
  readonly id: number;
}

export interface ReadResult {
  readonly events: readonly StoredEvent[];
  /** Oldest seq kept; head + 1 when nothing is. */
  readonly first: number;
  /** Newest seq, 0 when there was never any. */
  readonly head: number;
}

export interface StreamStatus {
  readonly first: number;
  readonly head: number;
  readonly bytes: number;
  readonly deadLetters: number;
  /** Up to `to` the stream was thinned: `missing` of the seqs from `first` on have no event any more. */
  readonly thinned?: { readonly to: number; readonly missing: number };
}

/** How many events of a stream are kept after `seq`; exact but for a seq amid what was thinned. */
export function keptAfter(status: StreamStatus, seq: number): number {
  const { first, head, thinned } = status;
  const after = Math.max(seq, first - 1);
  const seqs = Math.max(0, head - after);
  if (thinned === undefined || after >= thinned.to) return seqs;
  return seqs - Math.round((thinned.missing * (thinned.to - after)) / (thinned.to - first + 1));
}

/** Events of a stream that damage has taken. */
export interface Damage {
  readonly stream: string;
  readonly from: number;
  readonly to: number;
}

export interface CheckResult {
  readonly events: number;
  readonly chunks: number;
  /** Of all rows that were read. */
  readonly bytes: number;
  readonly damaged: readonly Damage[];
}

/** Of the file, bytes; the same where there was little to give back. */
export interface CompactResult {
  readonly beforeBytes: number;
  readonly afterBytes: number;
}

export interface GroupStatus {
  readonly group: string;
  readonly stream: string;
  readonly cursor: number;
}

export interface JournalStatus {
  readonly streams: ReadonlyMap<string, StreamStatus>;
  readonly groups: readonly GroupStatus[];
  readonly usedBytes: number;
  /** On the disk, without the log; what is not used there comes back by `compact`. */
  readonly fileBytes: number;
  readonly maxBytes: number;
  /** What goes on between commits, and which share of it is done, 0 to 1; null: nothing does. */
  readonly work: { readonly what: Work; readonly progress: number } | null;
  readonly full: boolean;
  /** What the disk last said, while it says it. */
  readonly failure: HoldfastError | null;
}

/**
 * The stream into which drops are told (invariant 5); never dropped itself. A record says that of `stream`'s seqs
 * from `from` to `to` no more than `kept` are left; a later one that covers some of them again takes its place.
 */
export const gapsStream = "_gaps";

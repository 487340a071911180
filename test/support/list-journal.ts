/**
 * The part of the journal that the delivery loop uses, as lists in memory: the same rules, no disk, and time to
 * look. A test decides when a commit lands (`hold`, `land`), whether it fails, and what is trimmed.
 */
import type { HoldfastError } from "../../src/core/errors.ts";
import type { NewEvent, StoredEvent } from "../../src/core/event.ts";
import type {
  Cursor,
  GroupStatus,
  EpochStart,
  Journal,
  JournalHistory,
  JournalIdentity,
  JournalStatus,
  NewDeadLetter,
  ReadResult,
  StreamStatus,
  UnitOfWork,
  UnitOutcome,
} from "../../src/journal/journal.ts";
import { storedEvent } from "./stored-event.ts";

export interface CommittedUnit {
  readonly unit: UnitOfWork;
  readonly when: "soon" | "linger" | "idle";
}

interface Waiting extends CommittedUnit {
  readonly settled: PromiseWithResolvers<UnitOutcome>;
}

export class ListJournal
  implements
    Pick<
      Journal,
      "read" | "commit" | "commitSoon" | "cursor" | "status" | "onAppended" | "identity"
    >,
    JournalHistory
{
  readonly committed: CommittedUnit[] = [];
  readonly deadLetters: NewDeadLetter[] = [];
  reads: { stream: string; events: number }[] = [];
  readError: HoldfastError | null = null;
  commitError: HoldfastError | null = null;
  readonly #streams = new Map<string, { events: StoredEvent[]; first: number; head: number }>();
  readonly #cursors = new Map<string, Cursor>();
  readonly #listeners = new Set<(stream: string, head: number) => void>();
  #identity: JournalIdentity = { device: "box", epoch: storedEvent().epoch, parent: null };
  #epochs = 1;
  #waiting: Waiting[] = [];
  #isHeld = false;

  append(stream: string, count: number, given: Partial<NewEvent> = {}): void {
    const list = this.#stream(stream);
    for (let index = 0; index < count; index++) {
      list.head++;
      const { epoch } = this.#identity;
      list.events.push(storedEvent({ ...given, stream, seq: list.head, epoch }));
    }
    for (const listener of this.#listeners) listener(stream, list.head);
  }

  /** Removes everything before `first`. */
  trim(stream: string, first: number): void {
    const list = this.#stream(stream);
    list.events = list.events.filter((event) => event.seq >= first);
    list.first = first;
  }

  /** Keeps every `each`th event of those up to `to`, as thinning does. */
  thin(stream: string, to: number, each: number): void {
    const list = this.#stream(stream);
    list.events = list.events.filter(({ seq }) => seq > to || seq % each === 1);
  }

  /** As a replay would. */
  moveCursor(group: string, stream: string, seq: number): void {
    this.#cursors.set(`${group} ${stream}`, { ...this.cursor(group, stream), seq });
  }

  /** Commits wait for `land`; those of urgency `idle` also for `commitSoon`. */
  hold(): void {
    this.#isHeld = true;
  }

  land(): void {
    this.#isHeld = false;
    this.commitSoon();
  }

  /** A crash: what waits never lands, nor does what comes until `land`. */
  lose(): void {
    this.#isHeld = true;
    for (const { settled } of this.#waiting) settled.resolve("refused");
    this.#waiting = [];
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  async read(
    stream: string,
    after: number,
    maxEvents: number,
    maxBytes: number,
  ): Promise<ReadResult> {
    await Promise.resolve();
    if (this.readError !== null) throw this.readError;
    const list = this.#stream(stream);
    const events: StoredEvent[] = [];
    let bytes = 0;
    const next = list.events.findIndex(({ seq }) => seq > after);
    for (const event of next === -1 ? [] : list.events.slice(next)) {
      if (
        events.length === maxEvents ||
        (events.length > 0 && bytes + event.payload.length > maxBytes)
      )
        break;
      bytes += event.payload.length;
      events.push(event);
    }
    this.reads.push({ stream, events: events.length });
    return { events, first: list.first, head: list.head };
  }

  commit(unit: UnitOfWork, when: CommittedUnit["when"]): Promise<UnitOutcome> {
    const settled = Promise.withResolvers<UnitOutcome>();
    this.#waiting.push({ unit, when, settled });
    if (when !== "idle") queueMicrotask(() => this.#turn());
    return settled.promise;
  }

  commitSoon(): void {
    queueMicrotask(() => this.#turn());
  }

  identity(): JournalIdentity {
    return this.#identity;
  }

  async beginEpoch({ from }: EpochStart): Promise<JournalIdentity> {
    await Promise.resolve();
    const epoch = `epoch-${++this.#epochs}`;
    for (const [stream, seq] of from) {
      const list = this.#stream(stream);
      list.events = list.events.map((event) => (event.seq < seq ? event : { ...event, epoch }));
    }
    this.#identity = { ...this.#identity, epoch, parent: this.#identity.epoch };
    return this.#identity;
  }

  cursor(group: string, stream: string): Cursor {
    return this.#cursors.get(`${group} ${stream}`) ?? { seq: 0, mark: null };
  }

  onAppended(listener: (stream: string, head: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  status(): JournalStatus {
    const streams = new Map<string, StreamStatus>();
    for (const [name, { first, head }] of this.#streams) {
      streams.set(name, { first, head, bytes: 0, deadLetters: 0 });
    }
    const groups: GroupStatus[] = [];
    return {
      streams,
      groups,
      usedBytes: 0,
      fileBytes: 0,
      maxBytes: 0,
      work: null,
      full: false,
      failure: null,
    };
  }

  #turn(): void {
    if (this.#isHeld) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { unit, when, settled } of waiting) {
      if (this.commitError !== null) {
        settled.reject(this.commitError);
        continue;
      }
      const stands = unit.cursors.every(
        ({ stream, from }) => this.cursor(unit.group, stream).seq === from,
      );
      if (!stands) {
        settled.resolve("refused");
        continue;
      }
      for (const { stream, to, mark } of unit.cursors) {
        const old = this.cursor(unit.group, stream);
        const cursor = { seq: to, mark: mark === undefined ? old.mark : mark };
        this.#cursors.set(`${unit.group} ${stream}`, cursor);
      }
      this.deadLetters.push(...(unit.deadLetters ?? []));
      this.committed.push({ unit, when });
      settled.resolve("committed");
    }
  }

  #stream(name: string): { events: StoredEvent[]; first: number; head: number } {
    let list = this.#streams.get(name);
    if (list === undefined) {
      list = { events: [], first: 1, head: 0 };
      this.#streams.set(name, list);
    }
    return list;
  }
}

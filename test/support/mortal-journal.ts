/**
 * A whole journal in lists: everything that the contract promises but the disk. What is committed lies in a
 * `ListDisk`, which outlives a `MortalJournal`: `kill` one and make another to see what a crash leaves.
 */
import { unended } from "../../src/core/expiring.ts";
import type { HoldfastError } from "../../src/core/errors.ts";
import type { NewEvent, StoredEvent } from "../../src/core/event.ts";
import type {
  Cursor,
  DeadLetter,
  GroupDeclaration,
  Journal,
  JournalIdentity,
  JournalStatus,
  NewDeadLetter,
  PacketIdentifier,
  ReadResult,
  RetryRow,
  Settled,
  StateEntry,
  StateSpace,
  UnitOfWork,
  UnitOutcome,
} from "../../src/journal/journal.ts";
import { testEpoch } from "./stored-event.ts";

export class ListDisk {
  readonly streams = new Map<string, { events: StoredEvent[]; head: number }>();
  readonly cursors = new Map<string, Cursor>();
  readonly state = new Map<string, Uint8Array>();
  readonly retries = new Map<string, RetryRow>();
  readonly packetIds = new Map<string, PacketIdentifier>();
  letters: DeadLetter[] = [];
  lastLetterId = 0;
  /** Units that were committed, in order. */
  readonly units: UnitOfWork[] = [];

  events(stream: string): StoredEvent[] {
    return this.#stream(stream).events;
  }

  head(stream: string): number {
    return this.streams.get(stream)?.head ?? 0;
  }

  first(stream: string): number {
    return this.streams.get(stream)?.events[0]?.seq ?? this.head(stream) + 1;
  }

  /** Removes what is at `to` or before it, as retention does. */
  trim(stream: string, to: number): void {
    const held = this.#stream(stream);
    held.events = held.events.filter(({ seq }) => seq > to);
  }

  /** Keeps every `each`th event of those up to `to`, as thinning does. */
  thin(stream: string, to: number, each: number): void {
    const held = this.#stream(stream);
    held.events = held.events.filter(({ seq }) => seq > to || seq % each === 1);
  }

  append(stream: string, event: NewEvent): void {
    const held = this.#stream(stream);
    held.head += 1;
    const payload = Uint8Array.from(event.payload);
    held.events.push({
      ...event,
      payload,
      stream,
      seq: held.head,
      epoch: testEpoch,
      clock: "synced",
    });
  }

  bury(letter: NewDeadLetter): void {
    this.lastLetterId += 1;
    this.letters.push({ ...letter, id: this.lastLetterId });
  }

  apply(unit: UnitOfWork): UnitOutcome {
    for (const { stream, from } of unit.cursors) {
      if ((this.cursors.get(`${unit.group}\0${stream}`)?.seq ?? 0) !== from) return "refused";
    }
    const isThere = ({ stream, id }: { stream: string; id: number }): boolean =>
      this.letters.some((letter) => letter.stream === stream && letter.id === id);
    if (!(unit.taken ?? []).every(isThere)) return "refused";
    this.letters = this.letters.filter(
      ({ stream, id }) => !unit.taken?.some((one) => one.stream === stream && one.id === id),
    );
    for (const { stream, to, mark } of unit.cursors) {
      const name = `${unit.group}\0${stream}`;
      this.cursors.set(name, { seq: to, mark: mark ?? this.cursors.get(name)?.mark ?? null });
    }
    for (const { stream, event } of unit.emits ?? []) this.append(stream, event);
    for (const { space, key, value } of unit.state ?? []) {
      if (value === null) this.state.delete(`${space}\0${key}`);
      else this.state.set(`${space}\0${key}`, Uint8Array.from(value));
    }
    for (const { stream, seq } of unit.retries?.remove ?? []) {
      this.retries.delete(`${unit.group}\0${stream}\0${seq}`);
    }
    for (const row of unit.retries?.put ?? []) {
      this.retries.set(`${unit.group}\0${row.event.stream}\0${row.event.seq}`, row);
    }
    for (const letter of unit.deadLetters ?? []) this.bury(letter);
    this.units.push(unit);
    return "committed";
  }

  #stream(stream: string): { events: StoredEvent[]; head: number } {
    const held = this.streams.get(stream) ?? { events: [], head: 0 };
    this.streams.set(stream, held);
    return held;
  }
}

/** What is asked of the next commit; gives back what to tell when it is on disk. */
type Work = () => (() => void) | undefined;

export class MortalJournal implements Journal {
  readonly disk: ListDisk;
  /** Thrown by the next commits of units, first to last, one each. */
  readonly failures: HoldfastError[] = [];
  /** Thrown by the next reads, first to last, one each. */
  readonly readFailures: HoldfastError[] = [];
  /** The longest page that was asked for, events. */
  largestRead = 0;
  /** How often events were read. */
  reads = 0;
  /** Killed: it answers nothing any more. */
  isDead = false;
  #isDraining = false;
  #waiting: Work[] = [];
  readonly #appended = new Set<(stream: string, head: number) => void>();

  constructor(disk = new ListDisk()) {
    this.disk = disk;
  }

  /** The process dies: what waits is lost, or on disk without anybody having been told (`applied`). */
  kill(applied = false): void {
    if (applied) for (const work of this.#waiting) work();
    this.isDead = true;
    this.#waiting = [];
    this.#appended.clear();
  }

  async open(_groups: readonly GroupDeclaration[]): Promise<void> {}
  async close(): Promise<void> {
    if (!this.isDead) this.#drain();
    this.kill();
  }

  identity(): JournalIdentity {
    return { device: "greenhouse-1", epoch: testEpoch, parent: null };
  }

  append(stream: string, event: NewEvent, settled: Settled, packet?: PacketIdentifier): void {
    const copy = { ...event, payload: Uint8Array.from(event.payload) };
    this.#enqueue(() => {
      this.disk.append(stream, copy);
      this.#keep(packet);
      return settled;
    });
  }

  appendDeadLetter(letter: NewDeadLetter, settled: Settled, packet?: PacketIdentifier): void {
    this.#enqueue(() => {
      this.disk.bury(letter);
      this.#keep(packet);
      return settled;
    });
  }

  hasRoom(): boolean {
    return true;
  }
  onRoom(): () => void {
    return () => undefined;
  }
  commitSoon(): void {}

  commit(unit: UnitOfWork, _when: "soon" | "linger" | "idle"): Promise<UnitOutcome> {
    return new Promise((resolve, reject) => {
      this.#enqueue(() => {
        const failure = this.failures.shift();
        if (failure !== undefined) return () => reject(failure);
        const outcome = this.disk.apply(unit);
        return () => resolve(outcome);
      });
    });
  }

  async read(
    stream: string,
    after: number,
    maxEvents: number,
    maxBytes: number,
  ): Promise<ReadResult> {
    await this.#reached();
    const failure = this.readFailures.shift();
    if (failure !== undefined) throw failure;
    this.reads += 1;
    this.largestRead = Math.max(this.largestRead, maxEvents);
    const found: StoredEvent[] = [];
    let bytes = 0;
    const kept = this.disk.events(stream);
    const first = this.disk.first(stream);
    let at = Math.min(kept.length, Math.max(0, after + 1 - first));
    while ((kept[at - 1]?.seq ?? 0) > after) at--;
    for (; at < kept.length; at++) {
      const event = kept[at];
      if (event === undefined || found.length >= maxEvents) break;
      if (found.length > 0 && bytes + event.payload.length > maxBytes) break;
      found.push(event);
      bytes += event.payload.length;
    }
    return { events: found, first, head: this.disk.head(stream) };
  }

  onAppended(listener: (stream: string, head: number) => void): () => void {
    this.#appended.add(listener);
    return () => this.#appended.delete(listener);
  }

  /** How many listen for appends. */
  get listeners(): number {
    return this.#appended.size;
  }

  /** How many requests wait for the next commit. */
  get waiting(): number {
    return this.#waiting.length;
  }

  cursor(group: string, stream: string): Cursor {
    return this.disk.cursors.get(`${group}\0${stream}`) ?? { seq: 0, mark: null };
  }

  status(): JournalStatus {
    return {
      streams: new Map(
        [...this.disk.streams].map(([name, { events, head }]) => [
          name,
          {
            first: this.disk.first(name),
            head,
            bytes: events.reduce((sum, event) => sum + event.payload.length, 0),
            deadLetters: this.disk.letters.filter((letter) => letter.stream === name).length,
          },
        ]),
      ),
      groups: [...this.disk.cursors].map(([name, { seq }]) => {
        const [group = "", stream = ""] = name.split("\0");
        return { group, stream, cursor: seq };
      }),
      usedBytes: 0,
      fileBytes: 0,
      work: null,
      maxBytes: 1024 ** 3,
      full: false,
      failure: null,
    };
  }

  async readState(space: string, key: string): Promise<Uint8Array | null> {
    await this.#reached();
    return this.disk.state.get(`${space}\0${key}`) ?? null;
  }

  async readStates(
    space: string,
    after: string | null,
    limit: number,
  ): Promise<readonly StateEntry[]> {
    await this.#reached();
    return [...this.disk.state]
      .filter(([name]) => name.startsWith(`${space}\0`))
      .map(([name, value]) => ({ key: name.slice(space.length + 1), value }))
      .filter(({ key }) => after === null || key > after)
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
      .slice(0, limit);
  }

  async readStateSpaces(): Promise<readonly StateSpace[]> {
    await this.#reached();
    const spaces = new Map<string, StateSpace>();
    for (const [name, value] of this.disk.state) {
      const [space = "", key = ""] = name.split("\0");
      const { keys = 0, bytes = 0 } = spaces.get(space) ?? {};
      spaces.set(space, { space, keys: keys + 1, bytes: bytes + key.length + value.length });
    }
    return [...spaces.values()];
  }

  async readEndedStates(space: string, nowMs: number, limit: number): Promise<readonly string[]> {
    const entries = await this.readStates(space, null, Number.POSITIVE_INFINITY);
    return entries
      .filter(({ value }) => unended(value, nowMs) === null)
      .map(({ key }) => key)
      .slice(0, limit);
  }

  async readRetries(group: string): Promise<readonly RetryRow[]> {
    await this.#reached();
    return [...this.disk.retries]
      .filter(([name]) => name.startsWith(`${group}\0`))
      .map(([, row]) => row);
  }

  async readDeadLetters(stream: string, limit: number, after = 0): Promise<readonly DeadLetter[]> {
    await this.#reached();
    return this.disk.letters
      .filter((letter) => letter.stream === stream && letter.id > after)
      .slice(0, limit);
  }

  async purgeDeadLetters(stream: string, ids?: readonly number[]): Promise<number> {
    await this.#reached();
    const before = this.disk.letters.length;
    this.disk.letters = this.disk.letters.filter(
      (letter) => letter.stream !== stream || (ids !== undefined && !ids.includes(letter.id)),
    );
    return before - this.disk.letters.length;
  }

  async readPacketIds(source: string): Promise<readonly PacketIdentifier[]> {
    await this.#reached();
    return [...this.disk.packetIds.values()].filter((p) => p.source === source);
  }

  releasePacketId(packet: PacketIdentifier, settled: Settled): void {
    this.#enqueue(() => {
      this.disk.packetIds.delete(`${packet.source}\0${packet.id}`);
      return settled;
    });
  }

  async forgetPacketIds(source: string): Promise<void> {
    await this.#reached();
    for (const [name, packet] of this.disk.packetIds) {
      if (packet.source === source) this.disk.packetIds.delete(name);
    }
  }

  #keep(packet: PacketIdentifier | undefined): void {
    if (packet !== undefined) this.disk.packetIds.set(`${packet.source}\0${packet.id}`, packet);
  }

  /** An answer takes a turn of the event loop, as one from a worker thread does; a dead journal gives none. */
  #reached(): Promise<void> {
    return new Promise((resolve) => {
      setImmediate(() => {
        if (!this.isDead) resolve();
      });
    });
  }

  #enqueue(work: Work): void {
    if (this.isDead) return;
    this.#waiting.push(work);
    if (this.#isDraining) return;
    this.#isDraining = true;
    setImmediate(() => {
      this.#isDraining = false;
      if (!this.isDead) this.#drain();
    });
  }

  #drain(): void {
    const before = new Map([...this.disk.streams].map(([name, { head }]) => [name, head]));
    const told = this.#waiting.splice(0).map((work) => work());
    for (const tell of told) tell?.();
    for (const [name, { head }] of this.disk.streams) {
      if (head === (before.get(name) ?? 0)) continue;
      for (const listener of this.#appended) listener(name, head);
    }
  }
}

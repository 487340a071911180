/**
 * The main thread's half of the journal: it packs what comes, decides when a turn begins, and tells what is safe.
 *
 *   pack ──(due)──► turn in flight ──► done: settled, in the order of the calls ──► the next turn, if due
 *                        ├─ no room: the intake is held and tried again; units, cursors and releases went through
 *                        └─ failed: the whole turn is kept and tried again with back-off
 *
 * A turn is due when 1,024 events or 256 KiB wait, when a source says that its window is full, when the oldest
 * event has waited its stream's linger, or when a unit asks for it. One turn is in flight at a time; what comes
 * meanwhile is packed for the next, so a slower disk makes larger commits, not a longer queue.
 *
 * Bounds: 8,192 events and 8 MiB (an eighth of a smaller journal's `maxBytes`) wait at the most (`hasRoom`), the
 * turn in flight holds as much again; a single larger event is taken when nothing else waits. Sources that are told
 * "no room" stop reading.
 *
 * What a crash leaves: up to the fsync nothing of the turn, after it all of it. `settled` is called after the
 * worker's answer, so what was told safe is on disk; what is on disk and was not told yet is sent again by its
 * source (QoS 1, marked `dup`) or known by its packet identifier (QoS 2).
 */
import { dirname, resolve } from "node:path";
import { backoffDelayMs } from "../core/backoff.ts";
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { NewEvent } from "../core/event.ts";
import type { Pulse } from "../core/pulse.ts";
import { Channel } from "./channel.ts";
import { bytesByStream } from "./intaken.ts";
import type * as contract from "./journal.ts";
import type { JournalSettings } from "./options.ts";
import { Outbox } from "./outbox.ts";
import { Overview } from "./overview.ts";
import type { TurnResult, Moment, StreamQuota, WorkerSetup } from "./protocol.ts";
import { readEvents } from "./reading.ts";
import { RecentChunks } from "./recent-chunks.ts";
import type { Sent } from "./sent.ts";
import { JournalTrouble } from "./trouble.ts";
import { workerSetupOf } from "./worker-setup.ts";

export interface JournalSetup {
  readonly settings: Omit<JournalSettings, "wearBudget" | "cardEndurance" | "cursorRetention">;
  readonly path: string;
  /** Used when the journal is made; later the journal's own counts. */
  readonly device: string;
  /** The hardware's identity; null: not known. */
  readonly board: string | null;
  readonly streams: ReadonlyMap<string, StreamQuota & { readonly lingerMs?: number }>;
  /** The worker is gone: nothing can be made durable any more. */
  readonly onFatal: (error: HoldfastError) => void;
  readonly fault?: WorkerSetup["fault"];
  /** The linger of streams that have none of their own, as it is now; left out: the settings'. */
  readonly lingerMs?: () => number;
}

const retryBackoff = { baseMs: 250, maxMs: 5_000 };
/** A held intake is tried again this often when no other turn comes by, ms. */
const heldEveryMs = 1_000;
/** Quotas, gaps and a sync of the clock need a turn now and then also when nothing comes in, ms. */
const upkeepEveryMs = 5_000;

export function createJournal(context: Context, setup: JournalSetup): contract.WholeJournal {
  return new JournalThread(context, setup);
}

class JournalThread implements contract.WholeJournal {
  readonly #context: Context;
  readonly #setup: JournalSetup;
  readonly #outbox: Outbox;
  readonly #overview: Overview;
  readonly #trouble: JournalTrouble;
  readonly #recent = new RecentChunks();
  readonly #roomListeners = new Set<() => void>();
  readonly #appendedListeners = new Set<(stream: string, head: number) => void>();
  #channel: Channel | undefined;
  #inFlight: Promise<void> | undefined;
  #failures = 0;
  #waitUntilMs = 0;
  #timer: Timer | undefined;
  /** When the timer that is set fires; NaN: none is. */
  #timerDueMs = Number.NaN;
  #upkeep: Timer | undefined;
  #hadRoom = true;
  #closing = false;
  #closed: Promise<void> | undefined;

  constructor(context: Context, setup: JournalSetup) {
    this.#context = context;
    this.#setup = setup;
    const { clock } = context;
    this.#outbox = new Outbox(
      clock,
      (stream) =>
        setup.streams.get(stream)?.lingerMs ?? setup.lingerMs?.() ?? setup.settings.linger,
      setup.settings.maxBytes,
      (stream) => setup.streams.get(stream)?.whenFull === "reject",
    );
    const { maxBytes, onFull } = setup.settings;
    const folder = dirname(resolve(setup.path));
    this.#trouble = new JournalTrouble(context, {
      maxBytes,
      dropOldest: onFull === "drop-oldest",
      folder,
    });
    this.#overview = new Overview(context, maxBytes, () => this.#trouble.figures());
  }

  async open(groups: readonly contract.GroupDeclaration[]): Promise<void> {
    const worker = workerSetupOf(this.#setup, groups, this.#context.clock.bootId);
    this.#channel = new Channel(worker, this.#moment(), this.#context.clock, this.#setup.onFatal);
    const opened = await this.#channel.open(
      (waits) => this.#trouble.waiting(waits.disk, waits.message),
      (news) => this.#overview.news(news),
    );
    this.#overview.opened(opened);
    this.#trouble.done(opened.disk, [], this.#overview.damage);
    this.#scheduleUpkeep();
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing = true;
    this.#timer?.cancel();
    this.#upkeep?.cancel();
    await this.#inFlight;
    // What still waits gets one chance; what fails now was never acknowledged.
    if (this.#channel !== undefined && (this.#outbox.hasWork || this.#outbox.isHeld))
      await this.#send();
    while (this.#channel !== undefined && this.#outbox.hasWork && !this.#outbox.isStuck) {
      await this.#send();
    }
    await this.#channel?.close();
    this.#channel = undefined;
    this.#outbox.abandon(new HoldfastError("JOURNAL_UNAVAILABLE", "The journal is closed"));
  }

  pulse(): Pulse {
    return this.#ask().pulse();
  }

  identity(): contract.JournalIdentity {
    return this.#overview.identity();
  }

  append(
    stream: string,
    event: NewEvent,
    settled: contract.Settled,
    packet?: contract.PacketIdentifier,
  ): void {
    this.#outbox.append(stream, event, this.#told(settled), packet);
    this.#afterIntake();
  }

  appendDeadLetter(
    letter: contract.NewDeadLetter,
    settled: contract.Settled,
    packet?: contract.PacketIdentifier,
  ): void {
    this.#outbox.appendLetter(letter, this.#told(settled), packet);
    this.#afterIntake();
  }

  hasRoom(stream?: string): boolean {
    const room = this.#outbox.hasRoom(stream);
    if (!room) this.#hadRoom = false;
    return room;
  }

  onRoom(listener: () => void): () => void {
    this.#roomListeners.add(listener);
    return () => this.#roomListeners.delete(listener);
  }

  commitSoon(): void {
    this.#outbox.hurry();
    this.#pump();
  }

  commit(
    unit: contract.UnitOfWork,
    when: "soon" | "linger" | "idle",
  ): Promise<contract.UnitOutcome> {
    const outcome = this.#outbox.commit(unit, when);
    this.#pump();
    return outcome;
  }

  read(stream: string, after: number, maxEvents: number, maxBytes: number) {
    const parts = { channel: () => this.#ask(), overview: this.#overview, recent: this.#recent };
    return readEvents(parts, { stream, after, maxEvents, maxBytes });
  }

  onAppended(listener: (stream: string, head: number) => void): () => void {
    this.#appendedListeners.add(listener);
    return () => this.#appendedListeners.delete(listener);
  }

  cursor(group: string, stream: string): contract.Cursor {
    return this.#overview.cursor(group, stream);
  }

  status(): contract.JournalStatus {
    return this.#overview.status(this.#trouble.isFull);
  }

  readState(space: string, key: string): Promise<Uint8Array | null> {
    return this.#ask().ask("state", { space, key });
  }

  readStates(space: string, after: string | null, limit: number) {
    return this.#ask().ask("states", { space, after, limit });
  }

  readStateSpaces(): Promise<readonly contract.StateSpace[]> {
    return this.#ask().ask("stateSpaces", null);
  }

  readEndedStates(space: string, nowMs: number, limit: number): Promise<readonly string[]> {
    return this.#ask().ask("endedStates", { space, nowMs, limit });
  }

  readRetries(group: string): Promise<readonly contract.RetryRow[]> {
    return this.#ask().ask("retries", { group });
  }

  readDeadLetters(stream: string, limit: number, after = 0) {
    return this.#ask().ask("deadLetters", { stream, limit, after });
  }

  purgeDeadLetters(stream: string, ids?: readonly number[]): Promise<number> {
    const purged = this.#outbox.purge(stream, ids ?? null);
    this.#pump();
    return purged;
  }

  async check(): Promise<contract.CheckResult> {
    return this.#ask().ask("check", null);
  }

  async compact(): Promise<contract.CompactResult> {
    const result = await this.#ask().ask("compact", null);
    this.#overview.compacted(result);
    return result;
  }

  async beginEpoch(start: contract.EpochStart): Promise<contract.JournalIdentity> {
    const wallMs = this.#context.clock.wallMs();
    const identity = await this.#ask().ask("beginEpoch", { ...start, wallMs });
    this.#overview.began(identity);
    for (const stream of start.from.keys()) this.#recent.forget(stream);
    return identity;
  }

  readPacketIds(source: string): Promise<readonly contract.PacketIdentifier[]> {
    return this.#ask().ask("packetIds", { source });
  }

  releasePacketId(packet: contract.PacketIdentifier, settled: contract.Settled): void {
    this.#outbox.release(packet, settled);
    this.#pump();
  }

  forgetPacketIds(source: string): Promise<void> {
    const forgotten = this.#outbox.forget(source);
    this.#pump();
    return forgotten;
  }

  /** The planted fault tells at once what is not on disk yet; otherwise `settled` as it is. */
  #told(settled: contract.Settled): contract.Settled {
    if (this.#setup.fault !== "settle-before-commit") return settled;
    queueMicrotask(settled);
    return () => undefined;
  }

  /** The hot path: most events change nothing about when the next turn is due. */
  #afterIntake(): void {
    if (this.#inFlight === undefined && this.#outbox.dueMs() !== this.#timerDueMs) this.#pump();
  }

  /** Begins a turn if one is due, else sets the timer for when it will be. */
  #pump(): void {
    if (this.#inFlight !== undefined || this.#closing || this.#channel === undefined) return;
    const now = this.#context.clock.monotonicMs();
    const dueMs = Math.max(this.#outbox.dueMs(), this.#waitUntilMs);
    if (dueMs <= now) {
      // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects; `close` awaits it
      this.#send();
      return;
    }
    this.#timer?.cancel();
    this.#timerDueMs = dueMs;
    if (dueMs === Number.POSITIVE_INFINITY) return;
    this.#timer = this.#context.clock.after(dueMs - now, () => {
      this.#timerDueMs = Number.NaN;
      this.#pump();
    });
  }

  #send(): Promise<void> {
    this.#timer?.cancel();
    this.#timerDueMs = Number.NaN;
    this.#inFlight = this.#turn().finally(() => {
      this.#inFlight = undefined;
      this.#pump();
    });
    return this.#inFlight;
  }

  async #turn(): Promise<void> {
    const sent = this.#outbox.take(this.#moment());
    let result: TurnResult;
    try {
      result = await this.#ask().ask("turn", sent.turn, sent.buffers());
    } catch (error) {
      // The worker is gone, or was never given the turn: what was to be in it is lost to this process.
      sent.abandon(error as Error);
      this.#channel?.fail(error as Error);
      return;
    }
    if (result.kind === "failed") this.#turnFailed(sent, result);
    else this.#turnDone(sent, result);
  }

  #turnDone(sent: Sent, result: Extract<TurnResult, { kind: "done" }>): void {
    this.#failures = 0;
    this.#overview.committed(result);
    for (const { stream } of result.dropped) this.#recent.forget(stream);
    const refused = new Set(result.refusedIntake && bytesByStream(result.refusedIntake).keys());
    const { told, waiting: unsettled } = sent.divided(refused);
    if (result.refusedIntake !== null) {
      this.#outbox.hold(sent, result.refusedIntake, unsettled);
      this.#waitUntilMs = 0;
      this.#timer?.cancel();
    } else this.#outbox.landed();
    for (const settled of told) settled();
    const waiting = sent.settleRest(result);
    this.#outbox.keepWaiting(waiting, result.units.length - waiting.length);
    const otherwise = this.#overview.damage ?? this.#overview.losses.sentence();
    this.#trouble.done(result.disk, this.#outbox.heldStreams, otherwise);
    for (const [stream, status] of result.figures.streams) {
      if (this.#overview.grew(stream)) {
        for (const listener of this.#appendedListeners) listener(stream, status.head);
      }
    }
    if (!this.#hadRoom && this.#outbox.hasRoomForSome) {
      this.#hadRoom = true;
      for (const listener of this.#roomListeners) listener();
    }
  }

  #turnFailed(sent: Sent, result: Extract<TurnResult, { kind: "failed" }>): void {
    this.#failures += 1;
    this.#outbox.putBack(sent, result.turn);
    const code = result.full ? "JOURNAL_FULL" : "JOURNAL_DISK";
    const error = new HoldfastError(code, `Cannot write the journal: ${result.message}`);
    this.#overview.failed(error);
    this.#trouble.failed(result.disk, result.full, error);
    const { clock, random } = this.#context;
    this.#waitUntilMs =
      clock.monotonicMs() + backoffDelayMs(retryBackoff, this.#failures, random());
  }

  #scheduleUpkeep(): void {
    this.#upkeep = this.#context.clock.after(heldEveryMs, () => {
      if (this.#outbox.isHeld) this.#outbox.hurry();
      else if (this.#trouble.isFull) this.#outbox.upkeep(heldEveryMs, false);
      else this.#outbox.upkeep(upkeepEveryMs, true);
      this.#pump();
      this.#scheduleUpkeep();
    });
  }

  #moment(): Moment {
    const { clock } = this.#context;
    return { wallMs: clock.wallMs(), monotonicMs: clock.monotonicMs(), clock: clock.quality() };
  }

  #ask(): Channel {
    if (this.#channel === undefined)
      throw new HoldfastError("JOURNAL_UNAVAILABLE", "The journal is not open");
    return this.#channel;
  }
}

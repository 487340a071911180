/**
 * What waits for the disk on the main thread, and when it is due. `take` makes a turn of it; what could not be
 * written comes back (`hold`, `putBack`) and goes first the next time.
 */
import type { Clock } from "../core/clock.ts";
import type { NewEvent } from "../core/event.ts";
import { SectionEncoder } from "./section.ts";
import type {
  NewDeadLetter,
  PacketIdentifier,
  Settled,
  UnitOfWork,
  UnitOutcome,
} from "./journal.ts";
import { Pack } from "./pack.ts";
import { bytesByStream } from "./intaken.ts";
import type { Intaken, Moment, PackedUnit, Section, Turn } from "./protocol.ts";
import { Sent, type Rest, type Unit, type Waiting } from "./sent.ts";

/** A turn is large enough: about 40 ms of 25,000 events a second, and 0.5 bytes to disk for each of payload. */
const turnEvents = 1_024;
const turnBytes = 256 * 1024;
/**
 * What may wait: eight such turns, so that a disk that takes 300 ms for an fsync does not stop a fast source; and
 * no more than an eighth of the journal, or one turn could be more than a journal of a few MiB can ever hold.
 */
export const waitingEventsMax = 8_192;
export const waitingBytesMax = 8 * 1024 * 1024;
export const waitingShare = 1 / 8;
/** A unit that found no room is tried again with any turn, this late at the latest, ms. */
const roomRetryMs = 1_000;
/** A cursor that may be repeated rides on the next commit, this late at the latest, ms. */
const idleMs = 5_000;

/** What one stream that may be held back has waiting, of these bounds: two turns, so that others have theirs. */
const heldBackShare = 1 / 4;
/** All that waits while some streams are held back, in multiples of these bounds. Kept in `hasRoom`. */
const heldPacks = 3;

const noRest = (): Rest => ({ units: [], releases: [], forgets: [], purges: [] });

/** An intake on its way, or held because there was no room for it. */
interface Held {
  readonly intake: Intaken;
  readonly waiting: Waiting;
  readonly quality: Turn["clock"];
  /** Of which streams. */
  readonly streams: ReadonlySet<string>;
  /** Nothing of a turn happened: nobody else may go on meanwhile. */
  readonly isWhole: boolean;
}

/** Each stream's own order stays: what is held of it was there first. */
function joined(first: Held, then: Held): Held {
  const [a, b] = [first.intake, then.intake];
  return {
    intake: {
      sections: [...a.sections, ...b.sections],
      letters: [...a.letters, ...b.letters],
      packets: [...a.packets, ...b.packets],
    },
    waiting: {
      settled: [...first.waiting.settled, ...then.waiting.settled],
      settledOf: [...first.waiting.settledOf, ...then.waiting.settledOf],
    },
    // The first is the least: quality only grows.
    quality: first.quality,
    streams: new Set([...first.streams, ...then.streams]),
    isWhole: false,
  };
}

function forgetful(intake: Intaken, sources: ReadonlySet<string>): Intaken {
  return { ...intake, packets: intake.packets.filter(({ source }) => !sources.has(source)) };
}

/**
 * The unit with bytes of its own. The caller may go on using its buffers; and to post a view is to copy all that it
 * looks into, for an event that was read the whole chunk.
 */
function copied(unit: Omit<UnitOfWork, "emits">): Omit<UnitOfWork, "emits"> {
  const { state, retries, deadLetters } = unit;
  // What is no bytes at all is left for SQLite to refuse, with this unit alone.
  const own = (bytes: Uint8Array): Uint8Array =>
    bytes instanceof Uint8Array ? new Uint8Array(bytes) : bytes;
  return {
    ...unit,
    ...(state && {
      state: state.map((put) => ({ ...put, value: put.value === null ? null : own(put.value) })),
    }),
    ...(retries && {
      retries: {
        remove: retries.remove,
        put: retries.put.map((row) => ({
          ...row,
          event: { ...row.event, payload: own(row.event.payload) },
        })),
      },
    }),
    ...(deadLetters && {
      deadLetters: deadLetters.map((letter) => ({ ...letter, payload: own(letter.payload) })),
    }),
  };
}

export class Outbox {
  readonly #clock: Clock;
  readonly #lingerMs: (stream: string) => number;
  #pack: Pack;
  #rest = noRest();
  #held: Held | null = null;
  #heldBytes = 0;
  /** What was held, while it is tried again: nobody adds to it before that has ended. */
  #onTrial: Held | null = null;
  #isBack = false;
  #dueMs = Number.POSITIVE_INFINITY;
  #lastTurnMs = 0;
  readonly #bytesMax: number;
  #onItsWay: Sent | null = null;
  #ended: Error | null = null;

  readonly #isHeldBack: (stream: string) => boolean;

  /** `isHeldBack`: the stream rejects by an option of its own, so that it may have to wait while others go on. */
  constructor(
    clock: Clock,
    lingerMs: (stream: string) => number,
    maxBytes: number,
    isHeldBack: (stream: string) => boolean = () => false,
  ) {
    this.#clock = clock;
    this.#isHeldBack = isHeldBack;
    this.#bytesMax = Math.min(waitingBytesMax, maxBytes * waitingShare);
    this.#lingerMs = lingerMs;
    this.#pack = new Pack(clock);
  }

  append(stream: string, event: NewEvent, settled: Settled, packet?: PacketIdentifier): void {
    if (this.#pack.add(stream, event)) this.#dueIn(this.#lingerMs(stream));
    this.#taken(stream, settled, packet);
  }

  appendLetter(letter: NewDeadLetter, settled: Settled, packet?: PacketIdentifier): void {
    this.#pack.addLetter(letter);
    this.#dueIn(this.#lingerMs(letter.stream));
    this.#taken(letter.stream, settled, packet);
  }

  #taken(stream: string, settled: Settled, packet: PacketIdentifier | undefined): void {
    this.#pack.tell(stream, settled);
    if (packet !== undefined) this.#pack.addPacket(packet, stream);
    if (
      this.#pack.count >= turnEvents ||
      this.#pack.bytes >= Math.min(turnBytes, this.#bytesMax / 2)
    )
      this.#dueMs = 0;
  }

  /** For events of some stream. */
  get hasRoomForSome(): boolean {
    const { count, bytes } = this.#pack;
    const isBelow = count < waitingEventsMax && bytes < this.#bytesMax;
    return isBelow && (this.#held ?? this.#onTrial)?.isWhole !== true;
  }

  /** For events of this stream, or of any. */
  hasRoom(stream?: string): boolean {
    const { count, bytes } = this.#pack;
    if (!this.hasRoomForSome) return false;
    if (stream !== undefined && this.#isHeldBack(stream)) {
      const own = this.#pack.shareOf(stream);
      if (own.count >= waitingEventsMax * heldBackShare) return false;
      if (own.bytes >= this.#bytesMax * heldBackShare) return false;
    }
    const held = this.#held ?? this.#onTrial;
    if (held === null) return true;
    if (stream === undefined || held.streams.has(stream)) return false;
    return (
      this.#heldBytes + bytes < this.#bytesMax * heldPacks &&
      held.waiting.settled.length + count < waitingEventsMax * heldPacks
    );
  }

  /** An intake, or that of some streams, found no room and waits; the rest goes on. */
  get isHeld(): boolean {
    return this.#held !== null;
  }

  /** The streams whose events found no room. */
  get heldStreams(): readonly string[] {
    return [...(this.#held?.streams ?? [])];
  }

  get hasWork(): boolean {
    const { units, releases, forgets, purges } = this.#rest;
    return this.#pack.count + units.length + releases.length + forgets.length + purges.length > 0;
  }

  /** At the last attempt there was no room, or the disk failed. */
  get isStuck(): boolean {
    return this.#held !== null || this.#isBack;
  }

  /** When the next turn is due, by the monotone clock, ms. */
  dueMs(): number {
    return this.#dueMs;
  }

  hurry(): void {
    if (this.hasWork || this.#held !== null) this.#dueMs = 0;
  }

  /** A turn for its own sake when there was none for so long; `alone`: unless one is due anyhow, at its own time. */
  upkeep(everyMs: number, alone: boolean): void {
    if (alone && this.#dueMs !== Number.POSITIVE_INFINITY) return;
    if (this.#clock.monotonicMs() - this.#lastTurnMs >= everyMs) this.#dueMs = 0;
  }

  commit(unit: UnitOfWork, when: "soon" | "linger" | "idle"): Promise<UnitOutcome> {
    const { emits, ...others } = unit;
    const packed: PackedUnit = { ...copied(others), sections: this.#packEmits(emits ?? []) };
    if (when === "soon") this.#dueMs = 0;
    else {
      const lingerMs = this.#lingerMs("");
      // A linger that was widened for the card's sake is not to be undone by what follows each delivery.
      this.#dueIn(when === "idle" ? Math.max(idleMs, lingerMs) : lingerMs);
    }
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) reject(this.#ended);
      else this.#rest.units.push({ packed, resolve, reject });
    });
  }

  #packEmits(emits: NonNullable<UnitOfWork["emits"]>): Section[] {
    const encoders = new Map<string, SectionEncoder>();
    const finished: Section[] = [];
    for (const { stream, event } of emits) {
      let encoder = encoders.get(stream);
      if (encoder?.isFull === true) {
        finished.push({ stream, bytes: encoder.finish() });
        encoder = undefined;
      }
      if (encoder === undefined) {
        encoder = new SectionEncoder(event.receivedAt, this.#clock.monotonicMs());
        encoders.set(stream, encoder);
      }
      encoder.add(event);
    }
    for (const [stream, encoder] of encoders) finished.push({ stream, bytes: encoder.finish() });
    return finished;
  }

  release(packet: PacketIdentifier, settled: Settled): void {
    this.#rest.releases.push({ packet, settled });
    this.#dueIn(this.#lingerMs(""));
  }

  /** Also the identifiers of what has not been written yet: they would come back with it. */
  forget(source: string): Promise<void> {
    this.#dueMs = 0;
    this.#pack.forget(source);
    this.#onItsWay?.forgotten.add(source);
    if (this.#held !== null) {
      this.#held = { ...this.#held, intake: forgetful(this.#held.intake, new Set([source])) };
    }
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) reject(this.#ended);
      else this.#rest.forgets.push({ source, resolve, reject });
    });
  }

  purge(stream: string, ids: readonly number[] | null): Promise<number> {
    this.#dueMs = 0;
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) reject(this.#ended);
      else this.#rest.purges.push({ stream, ids, resolve, reject });
    });
  }

  take(now: Moment): Sent {
    const { units, releases, forgets, purges } = this.#rest;
    const held = this.#held;
    const first = held?.isWhole === true ? held : this.#joined(held, now);
    this.#onTrial = held;
    this.#held = null;
    this.#isBack = false;
    const turn: Turn = {
      intake: first.intake,
      units: units.map(({ packed }) => packed),
      releases: releases.map(({ packet }) => packet),
      forgets: forgets.map(({ source }) => source),
      purges: purges.map(({ stream, ids }) => ({ stream, ids })),
      now,
      clock: first.quality,
    };
    const sent = new Sent(turn, first.waiting, this.#rest);
    this.#rest = noRest();
    this.#onItsWay = sent;
    this.#lastTurnMs = now.monotonicMs;
    // What was packed behind a held intake is due as soon as that has been taken.
    this.#dueMs = this.#pack.count > 0 ? 0 : Number.POSITIVE_INFINITY;
    return sent;
  }

  #joined(held: Held | null, now: Moment): Held {
    const pack = this.#pack;
    this.#pack = new Pack(this.#clock);
    const packed: Held = {
      intake: pack.finish(),
      waiting: pack,
      quality: pack.quality ?? now.clock,
      streams: new Set(pack.settledOf),
      isWhole: false,
    };
    return held === null ? packed : joined(held, packed);
  }

  /** The intake that was on its way is on disk. */
  landed(): void {
    this.#onTrial = null;
  }

  /** What of the intake found no room goes first when there is some; `waiting`: who waits for it. */
  hold(sent: Sent, intake: Intaken, waiting: Waiting): void {
    this.#keep(sent, intake, waiting, false);
    const { units, releases, forgets, purges } = this.#rest;
    const others = units.length + releases.length + forgets.length + purges.length;
    if (others > 0) this.#dueMs = 0;
  }

  #keep(sent: Sent, intake: Intaken, waiting: Waiting, isWhole: boolean): void {
    const bytes = bytesByStream(intake);
    this.#onTrial = null;
    this.#heldBytes = [...bytes.values()].reduce((sum, each) => sum + each, 0);
    this.#held = {
      intake: forgetful(intake, sent.forgotten),
      waiting,
      quality: sent.turn.clock,
      streams: new Set(bytes.keys()),
      isWhole,
    };
  }

  /** These units found no room: they go first when there is some. */
  keepWaiting(units: readonly Unit[], others: number): void {
    if (units.length === 0) return;
    this.#rest.units = [...units, ...this.#rest.units];
    this.#isBack = others === 0;
    // Where others went through it is their turn next.
    this.#dueIn(others > 0 ? 0 : roomRetryMs);
  }

  /** Nothing of the turn happened: all of it goes first the next time. */
  putBack(sent: Sent, turn: Turn): void {
    const { rest } = sent;
    const units = rest.units.map((unit, index) => ({
      ...unit,
      packed: turn.units[index] ?? unit.packed,
    }));
    this.#rest = {
      units: [...units, ...this.#rest.units],
      releases: [...rest.releases, ...this.#rest.releases],
      forgets: [...rest.forgets, ...this.#rest.forgets],
      purges: [...rest.purges, ...this.#rest.purges],
    };
    this.#keep(sent, turn.intake, sent.waiting, true);
    this.#isBack = true;
    this.#dueMs = 0;
  }

  /** Nothing will be written any more: what waits for an answer gets this one, and what is still asked. */
  abandon(error: Error): void {
    this.#ended = error;
    for (const { reject } of [...this.#rest.units, ...this.#rest.forgets, ...this.#rest.purges])
      reject(error);
    this.#rest = noRest();
  }

  #dueIn(ms: number): void {
    this.#dueMs = Math.min(this.#dueMs, this.#clock.monotonicMs() + ms);
  }
}

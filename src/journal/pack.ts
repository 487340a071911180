/** What waits for the next commit, packed as it comes. */
import assert from "node:assert/strict";
import type { Clock } from "../core/clock.ts";
import type { ClockQuality, NewEvent } from "../core/event.ts";
import { SectionEncoder } from "./section.ts";
import type { NewDeadLetter, PacketIdentifier, Settled } from "./journal.ts";
import type { Intaken, IntakenPacket, Section } from "./protocol.ts";

/** What of one stream a pack holds. */
interface Share {
  count: number;
  bytes: number;
}

interface Open {
  readonly encoder: SectionEncoder;
  readonly clock: ClockQuality;
  readonly share: Share;
}

const noShare: Readonly<Share> = { count: 0, bytes: 0 };

/** One pack becomes one intake of one turn. */
export class Pack {
  readonly #clock: Clock;
  readonly #open = new Map<string, Open>();
  readonly #finished: Section[] = [];
  readonly #letters: NewDeadLetter[] = [];
  #packets: IntakenPacket[] = [];
  /** In the order of the calls, events and dead letters alike. */
  readonly settled: Settled[] = [];
  /** The stream of each of these. */
  readonly settledOf: string[] = [];
  /** Events and dead letters. */
  count = 0;
  bytes = 0;
  /** The first is the least: quality only grows. */
  quality: ClockQuality | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True when this is the stream's first event in this pack. */
  add(stream: string, event: NewEvent): boolean {
    const clock = this.#clock.quality();
    let open = this.#open.get(stream);
    const isFirst = open === undefined || open.encoder.count === 0;
    if (open === undefined || open.clock !== clock || open.encoder.isFull) {
      // After a time sync a new section has bases of its own, so that each can be put right by itself.
      if (open !== undefined) this.#finished.push({ stream, bytes: open.encoder.finish() });
      const encoder = new SectionEncoder(event.receivedAt, this.#clock.monotonicMs());
      open = { encoder, clock, share: open?.share ?? { count: 0, bytes: 0 } };
      this.#open.set(stream, open);
    }
    this.quality ??= clock;
    const before = open.encoder.bytes;
    open.encoder.add(event);
    const { share } = open;
    const bytes = open.encoder.bytes - before;
    share.bytes += bytes;
    share.count += 1;
    this.bytes += bytes;
    this.count += 1;
    return isFirst;
  }

  /** What it holds of one stream's events. */
  shareOf(stream: string): Readonly<Share> {
    return this.#open.get(stream)?.share ?? noShare;
  }

  /** Whom to tell when the last event or letter that was added, one of `stream`, is on disk. */
  tell(stream: string, settled: Settled): void {
    this.settled.push(settled);
    this.settledOf.push(stream);
  }

  addLetter(letter: NewDeadLetter): void {
    // SQLite stores NaN as NULL and refuses that: one such letter would fail its turn again and again.
    for (const time of [letter.time, letter.firstFailedAt, letter.lastFailedAt, letter.attempts])
      assert(Number.isFinite(time), "A dead letter's time or count of attempts is no number");
    this.#letters.push({ ...letter, payload: Uint8Array.from(letter.payload) });
    this.bytes += letter.payload.length;
    this.count += 1;
  }

  addPacket(packet: PacketIdentifier, stream: string): void {
    this.#packets.push({ ...packet, stream });
  }

  /** The source's session is gone: what it sent stays, its identifiers are free. */
  forget(source: string): void {
    this.#packets = this.#packets.filter((packet) => packet.source !== source);
  }

  finish(): Intaken {
    for (const [stream, { encoder }] of this.#open) {
      this.#finished.push({ stream, bytes: encoder.finish() });
    }
    this.#open.clear();
    return { sections: this.#finished, letters: this.#letters, packets: this.#packets };
  }
}

/**
 * How events lie in a section: what one part packed on the main thread for one stream.
 *
 *   section = count u32 · wall base f64 ms · monotone base f64 ms · records
 *   record  = headers (0 and the pairs, or the number of an earlier block of this section) · key length + 1 and key ·
 *             receivedAt less the wall base, zigzag · time less receivedAt, zigzag · payload length and payload
 *
 * All counts and lengths are varints (varint.ts). Times carry the section's two bases so that events taken before the
 * first time sync can be put right when they are read, once their boot's offset is known (invariant 9): a `time`
 * equal to `receivedAt` moves with it, one from the payload stays.
 */
import assert from "node:assert/strict";
import type { ClockQuality, Headers, NewEvent, StoredEvent } from "../core/event.ts";
import { noHeaders } from "../core/event.ts";
import { ByteReader, putVarint } from "./varint.ts";

export const sectionHeadBytes = 20;
/**
 * A section and a chunk end here, so that a reader's page, a reader's memory and a trim stay small after a burst:
 * the size of a turn (outbox.ts), beyond which larger chunks save little (0.53 bytes to disk for each of payload).
 */
export const chunkEventsMax = 1_024;
export const chunkBytesMax = 256 * 1024;
/** The largest Date (ECMA-262, 21.4.1.1): beyond it a time is nobody's. */
const timeMaxMs = 8.64e15;
/** The first buffer of a section; it doubles. A burst of 100 events of 90 bytes fits without growing. */
const firstBufferBytes = 16 * 1024;
/** Headers, key, times and lengths of a record take less than this beside the bytes that are counted. */
const recordOverheadBytes = 64;

/** Packs events for one stream as they come; the bytes are copied at once. */
export class SectionEncoder {
  #buffer = Buffer.allocUnsafeSlow(firstBufferBytes);
  #length = sectionHeadBytes;
  #count = 0;
  readonly #wallBaseMs: number;
  readonly #blocks = new Map<Headers, number>();

  constructor(wallBaseMs: number, monotonicBaseMs: number) {
    this.#wallBaseMs = wallBaseMs;
    this.#buffer.writeDoubleLE(wallBaseMs, 4);
    this.#buffer.writeDoubleLE(monotonicBaseMs, 12);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#length;
  }

  /** The next event belongs into another section. */
  get isFull(): boolean {
    return this.#count >= chunkEventsMax || this.#length >= chunkBytesMax;
  }

  add(event: NewEvent): void {
    // A time that is no number has no varint: it would be written for ever.
    assert(Math.abs(event.time) <= timeMaxMs, "An event's time is out of range");
    assert(Math.abs(event.receivedAt) <= timeMaxMs, "An event's receipt time is out of range");
    const before = this.#length;
    const isKnown = this.#blocks.has(event.headers);
    try {
      this.#putRecord(event);
      this.#count += 1;
    } catch (error) {
      // A key or header that is no text: half a record would make all behind it unreadable.
      this.#length = before;
      if (!isKnown) this.#blocks.delete(event.headers);
      throw error;
    }
  }

  #putRecord(event: NewEvent): void {
    const { key, payload } = event;
    this.#putHeaders(event.headers);
    this.#reserve(recordOverheadBytes + payload.length + (key === null ? 0 : key.length * 3));
    if (key === null) this.#putVarint(0);
    else this.#putText(key, 1);
    this.#putZigzag(event.receivedAt - this.#wallBaseMs);
    this.#putZigzag(event.time - event.receivedAt);
    this.#putVarint(payload.length);
    this.#buffer.set(payload, this.#length);
    this.#length += payload.length;
  }

  /** The section, in an ArrayBuffer of its own. Nothing may be added after this. */
  finish(): Uint8Array<ArrayBuffer> {
    this.#buffer.writeUInt32LE(this.#count, 0);
    return new Uint8Array(this.#buffer.buffer, 0, this.#length);
  }

  #putHeaders(headers: Headers): void {
    this.#reserve(recordOverheadBytes);
    const block = this.#blocks.get(headers);
    if (block !== undefined) {
      this.#putVarint(block);
      return;
    }
    this.#blocks.set(headers, this.#blocks.size + 1);
    this.#putVarint(0);
    const pairs = Object.entries(headers);
    this.#putVarint(pairs.length);
    for (const [name, value] of pairs) {
      this.#reserve(recordOverheadBytes + (name.length + value.length) * 3);
      this.#putText(name, 0);
      this.#putText(value, 0);
    }
  }

  /** Length plus `bias`, then the UTF-8 bytes; room for three bytes a UTF-16 unit was reserved. */
  #putText(text: string, bias: 0 | 1): void {
    const bytes = Buffer.byteLength(text);
    this.#putVarint(bytes + bias);
    this.#length += this.#buffer.write(text, this.#length);
  }

  /** The sign in the lowest bit; by parts, since twice a time may be more than a double holds exactly. */
  #putZigzag(value: number): void {
    const whole = Math.round(value);
    const size = whole < 0 ? -whole - 1 : whole;
    const low = (size % 64) * 2 + (whole < 0 ? 1 : 0);
    const rest = Math.floor(size / 64);
    this.#buffer[this.#length++] = rest === 0 ? low : low | 128;
    if (rest > 0) this.#putVarint(rest);
  }

  #putVarint(value: number): void {
    this.#length = putVarint(this.#buffer, this.#length, value);
  }

  /** Room for `bytes` more, beside the payload and key that the caller has still to write. */
  #reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** How many events a section holds. */
export function countOf(section: Uint8Array): number {
  return new DataView(section.buffer, section.byteOffset).getUint32(0, true);
}

export interface DecodeContext {
  readonly stream: string;
  readonly epoch: string;
  readonly clock: ClockQuality;
  readonly first: number;
  /** Of each event; null or left out: they follow each other from `first` on. */
  readonly seqs?: readonly number[] | null;
  /** The boot's true wall clock less its monotone one, ms; null: not known. */
  readonly bootOffsetMs: number | null;
  /** Where later epochs took over, ascending (epochs.ts). */
  readonly later?: readonly { readonly from: number; readonly epoch: string }[] | null;
}

/** The events of a plain body. Payloads are views into it. */
export function decodeSections(
  body: Uint8Array<ArrayBuffer>,
  context: DecodeContext,
): StoredEvent[] {
  const reader = new Reader(body);
  const events: StoredEvent[] = [];
  const later = context.later ?? null;
  while (!reader.ended) {
    const { count, wallBaseMs, monotonicBaseMs } = reader.sectionHead();
    const isLate = context.clock !== "synced" && context.bootOffsetMs !== null;
    const shiftMs = isLate
      ? Math.round((context.bootOffsetMs ?? 0) + monotonicBaseMs - wallBaseMs)
      : 0;
    const blocks: Headers[] = [];
    for (let index = 0; index < count; index++) {
      const headers = reader.headers(blocks);
      const key = reader.key();
      const received = wallBaseMs + reader.zigzag();
      const lead = reader.zigzag();
      const seq = context.seqs?.[events.length] ?? context.first + events.length;
      const taker = later === null ? undefined : later.findLast(({ from }) => from <= seq);
      events.push({
        stream: context.stream,
        seq,
        epoch: taker?.epoch ?? context.epoch,
        clock: isLate ? "synced" : context.clock,
        key,
        time: lead === 0 ? received + shiftMs : received + lead,
        receivedAt: received + shiftMs,
        headers,
        payload: reader.payload(),
      });
    }
  }
  return events;
}

const ownValue = { enumerable: true, writable: true, configurable: true };

class Reader {
  readonly #from: ByteReader;
  /** By their bytes: a body of many small sections has the same few headers in each. */
  readonly #known = new Map<string, Headers>();

  constructor(body: Uint8Array<ArrayBuffer>) {
    this.#from = new ByteReader(body);
  }

  get ended(): boolean {
    return this.#from.at >= this.#from.bytes.length;
  }

  sectionHead(): { count: number; wallBaseMs: number; monotonicBaseMs: number } {
    const { bytes, at } = this.#from;
    this.#from.at += sectionHeadBytes;
    return {
      count: bytes.readUInt32LE(at),
      wallBaseMs: bytes.readDoubleLE(at + 4),
      monotonicBaseMs: bytes.readDoubleLE(at + 12),
    };
  }

  headers(blocks: Headers[]): Headers {
    const block = this.#from.varint();
    if (block > 0) return blocks[block - 1] ?? noHeaders;
    const from = this.#from.at;
    for (let texts = this.#from.varint() * 2; texts > 0; texts--) {
      const length = this.#from.varint();
      this.#from.at += length;
    }
    const written = this.#from.bytes.toString("latin1", from, this.#from.at);
    let kept = this.#known.get(written);
    if (kept === undefined) {
      this.#from.at = from;
      kept = this.#pairs();
      this.#known.set(written, kept);
    }
    blocks.push(kept);
    return kept;
  }

  #pairs(): Headers {
    const pairs = this.#from.varint();
    if (pairs === 0) return noHeaders;
    const headers: Record<string, string> = {};
    for (let index = 0; index < pairs; index++) {
      const name = this.#text(this.#from.varint());
      const value = this.#text(this.#from.varint());
      // Not by assignment: a topic level may be called __proto__. All others are three times faster by it.
      if (name === "__proto__") Object.defineProperty(headers, name, { ...ownValue, value });
      else headers[name] = value;
    }
    return Object.freeze(headers);
  }

  key(): string | null {
    const length = this.#from.varint();
    return length === 0 ? null : this.#text(length - 1);
  }

  payload(): Uint8Array {
    const length = this.#from.varint();
    const { bytes, at } = this.#from;
    this.#from.at += length;
    return bytes.subarray(at, at + length);
  }

  /** The sign stands in the lowest bit. */
  zigzag(): number {
    const low = this.#from.bytes[this.#from.at++] ?? 0;
    const size = ((low & 127) >> 1) + (low < 128 ? 0 : this.#from.varint() * 64);
    return (low & 1) === 0 ? size : -size - 1;
  }

  #text(length: number): string {
    const { bytes, at } = this.#from;
    this.#from.at += length;
    return bytes.toString("utf8", at, at + length);
  }
}

/**
 * Walks over the packets of a connection by their fixed headers (MQTT 5, 2.1), so that one which is too large is
 * never held in memory: mqtt-packet collects whatever length a header claims, up to 256 MiB, and a 3.1.1 broker
 * cannot be told a limit. What fits is passed on as it came; of a PUBLISH that does not fit only what is needed to
 * acknowledge it is kept, so that one such message does not stand in the way for ever.
 */

export interface OversizedPublish {
  readonly topic: string;
  readonly qos: number;
  readonly dup: boolean;
  readonly retain: boolean;
  /** 0 at QoS 0. */
  readonly packetId: number;
  /** Of the whole packet. */
  readonly bytes: number;
}

export interface CutterActions {
  pass(bytes: Buffer): void;
  /** After its last byte: packets come in order. */
  oversized(publish: OversizedPublish): void;
  /** Another packet than PUBLISH was too large. */
  refused(): void;
}

interface Discarded {
  readonly firstByte: number;
  readonly bytes: number;
  /** Topic and identifier: at most `headBytesMax`. */
  head: Buffer;
}

/** Two bytes of length, a topic of at most 65,535 bytes, and two bytes of identifier. */
const headBytesMax = 2 + 65_535 + 2;
const nothing = Buffer.alloc(0);

export class PacketCutter {
  readonly #bytesMax: number;
  readonly #actions: CutterActions;
  /** The beginning of a fixed header: at most four bytes. */
  #held = nothing;
  /** Bytes of the current packet that are still to come. */
  #rest = 0;
  #discarded: Discarded | null = null;

  constructor(bytesMax: number, actions: CutterActions) {
    this.#bytesMax = bytesMax;
    this.#actions = actions;
  }

  cut(chunk: Buffer): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = nothing;
    let from = 0;
    let at = 0;
    while (at < bytes.length) {
      if (this.#rest > 0) {
        const end = Math.min(at + this.#rest, bytes.length);
        this.#rest -= end - at;
        if (this.#discarded !== null) {
          this.#discard(this.#discarded, bytes.subarray(at, end));
          from = end;
        }
        at = end;
        continue;
      }
      const header = readHeader(bytes, at);
      if (header === null) {
        this.#held = Buffer.from(bytes.subarray(at));
        break;
      }
      this.#rest = header.length;
      if (header.length > this.#bytesMax) {
        this.#pass(bytes, from, at);
        this.#discarded = {
          firstByte: bytes[at] ?? 0,
          bytes: header.end - at + header.length,
          head: nothing,
        };
        from = header.end;
      }
      at = header.end;
    }
    this.#pass(bytes, from, at);
  }

  #pass(bytes: Buffer, from: number, to: number): void {
    if (to > from)
      this.#actions.pass(to - from === bytes.length ? bytes : bytes.subarray(from, to));
  }

  #discard(discarded: Discarded, part: Buffer): void {
    const missing = headBytesMax - discarded.head.length;
    if (missing > 0) discarded.head = Buffer.concat([discarded.head, part.subarray(0, missing)]);
    if (this.#rest > 0) return;
    this.#discarded = null;
    const { firstByte, head } = discarded;
    if (firstByte >> 4 !== 3) {
      this.#actions.refused();
      return;
    }
    const qos = (firstByte >> 1) & 3;
    const topicEnd = 2 + head.readUInt16BE(0);
    this.#actions.oversized({
      topic: head.toString("utf8", 2, topicEnd),
      qos,
      dup: (firstByte & 8) !== 0,
      retain: (firstByte & 1) !== 0,
      packetId: qos === 0 ? 0 : head.readUInt16BE(topicEnd),
      bytes: discarded.bytes,
    });
  }
}

/** Where the fixed header that begins at `at` ends, and how long its packet is; null: it is not all there yet. */
function readHeader(bytes: Buffer, at: number): { end: number; length: number } | null {
  let length = 0;
  // [MQTT-1.5.5-1]: at most four bytes; a fifth is the parser's to refuse.
  for (let place = 0; place < 4; place++) {
    const byte = bytes[at + 1 + place];
    if (byte === undefined) return null;
    length += (byte & 0x7f) << (7 * place);
    if (byte < 0x80) return { end: at + 2 + place, length };
  }
  return { end: at + 5, length: 0 };
}

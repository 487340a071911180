/**
 * A PUBLISH as bytes (MQTT 5, 3.3; MQTT 3.1.1, 3.3), at a tenth of what it costs to describe it to MQTT.js as objects,
 * which are copied, kept and encoded field by field.
 */
import type { StoredEvent } from "../core/event.ts";
import { userPropertiesOf } from "./mqtt-message.ts";

export interface PublishTerms {
  readonly version: 4 | 5;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly device: string;
}

const userProperty = 0x26;

export class PublishPacket {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** The whole packet. */
  readonly bytes: number;
  readonly #terms: PublishTerms;
  readonly #topicBytes: number;
  /** Names and values in turn. */
  readonly #properties: readonly string[];
  readonly #propertyBytes: number;
  readonly #remainingBytes: number;

  /** `topic` and user properties are of at most 65,535 bytes each. */
  constructor(event: StoredEvent, topic: string, terms: PublishTerms, isBackfill: boolean) {
    this.topic = topic;
    this.payload = event.payload;
    this.#terms = terms;
    this.#topicBytes = Buffer.byteLength(topic);
    this.#properties = terms.version === 5 ? userPropertiesOf(event, terms.device, isBackfill) : [];
    let propertyBytes = 0;
    for (const text of this.#properties) propertyBytes += 2 + Buffer.byteLength(text);
    // Each pair begins with its kind.
    this.#propertyBytes = propertyBytes + this.#properties.length / 2;
    this.#remainingBytes =
      2 +
      this.#topicBytes +
      (terms.qos > 0 ? 2 : 0) +
      (terms.version === 5 ? lengthBytes(this.#propertyBytes) + this.#propertyBytes : 0) +
      this.payload.length;
    this.bytes = 1 + lengthBytes(this.#remainingBytes) + this.#remainingBytes;
  }

  /** Without the payload. */
  get headBytes(): number {
    return this.bytes - this.payload.length;
  }

  /** All but the payload, which follows it. Gives where that begins. */
  writeHead(into: Buffer, from: number, packetId: number): number {
    const { version, qos, retain } = this.#terms;
    let at = from;
    into[at++] = 0x30 | (qos << 1) | (retain ? 1 : 0);
    at = writeLength(into, at, this.#remainingBytes);
    at = into.writeUInt16BE(this.#topicBytes, at);
    at += into.write(this.topic, at);
    if (qos > 0) at = into.writeUInt16BE(packetId, at);
    if (version === 4) return at;
    at = writeLength(into, at, this.#propertyBytes);
    const properties = this.#properties;
    for (let index = 0; index < properties.length; index += 1) {
      if (index % 2 === 0) into[at++] = userProperty;
      const bytes = into.write(properties[index] as string, at + 2);
      into.writeUInt16BE(bytes, at);
      at += 2 + bytes;
    }
    return at;
  }
}

/** MQTT 5, 1.5.5: seven bits a byte. */
function lengthBytes(length: number): number {
  if (length < 128) return 1;
  if (length < 16_384) return 2;
  return length < 2_097_152 ? 3 : 4;
}

function writeLength(into: Buffer, from: number, length: number): number {
  let [at, rest] = [from, length];
  for (; rest > 127; rest = Math.floor(rest / 128)) into[at++] = (rest % 128) | 128;
  into[at++] = rest;
  return at;
}

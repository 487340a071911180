/**
 * What is published on one connection and not acknowledged yet. MQTT.js keeps the connection; what is published goes
 * past its store, straight to its stream, many packets in one write, and is acknowledged by `packetreceive`: MQTT.js
 * takes a PUBACK that it knows nothing of for an error of the broker, and ignores it.
 *
 * Bound: as many as its user lets out at once, at most 65,535; a chunk of 64 KiB, or one payload that is larger than a
 * quarter of it.
 */
import type { PublishPacket } from "./mqtt-publish.ts";

/** What is used of MQTT.js' client. */
export interface PublishingClient {
  readonly stream: {
    write(bytes: Uint8Array, taken?: (error?: Error | null) => void): boolean;
  };
  on(event: "packetreceive", listener: (packet: Received) => void): unknown;
  off(event: "packetreceive", listener: (packet: Received) => void): unknown;
}

interface Received {
  readonly cmd: string;
  readonly messageId?: number | undefined;
  readonly reasonCode?: number | undefined;
}

/** Null: the broker has it. A number: the reason code why it has not. */
type Answer = number | null;

const chunkBytes = 64 * 1024;
const identifiers = 65_535;
const urgesMax = 16;
const pingRequest = Buffer.from([0xc0, 0]);

export class MqttPublisher {
  readonly #client: PublishingClient;
  readonly #out = new Map<number, (answer: Answer) => void>();
  readonly #onPacket = (packet: Received): void => this.#received(packet);
  #last = 0;
  #chunk = Buffer.allocUnsafe(0);
  /** What of the chunk was written to the stream, and what is to be. */
  #written = 0;
  #filled = 0;
  /** Published at QoS 0 and not given to the stream yet. */
  #unanswered: ((answer: Answer) => void)[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #urging: NodeJS.Immediate | undefined;
  #urges = 0;

  constructor(client: PublishingClient) {
    this.#client = client;
    client.on("packetreceive", this.#onPacket);
  }

  /** Published at QoS 1 and not acknowledged. */
  get outstanding(): number {
    return this.#out.size;
  }

  /** At QoS 0 it rests when the kernel has taken it: a link that is slow is not given more than the window. */
  publish(packet: PublishPacket, qos: 0 | 1, rest: (answer: Answer) => void): void {
    let packetId = 0;
    this.#urges = 0;
    if (qos > 0) {
      packetId = this.#identifier();
      this.#out.set(packetId, rest);
    }
    const { payload, headBytes } = packet;
    const isLarge = payload.length > chunkBytes / 4;
    this.#reserve(isLarge ? headBytes : packet.bytes);
    this.#filled = packet.writeHead(this.#chunk, this.#filled, packetId);
    if (isLarge) this.#flush();
    else {
      this.#chunk.set(payload, this.#filled);
      this.#filled += payload.length;
    }
    if (qos === 0) this.#unanswered.push(rest);
    if (isLarge) this.#write(payload);
    else this.#flushing ??= setImmediate(() => this.#flush());
  }

  /**
   * Nothing is left to be sent. A broker that gathers small packets (Nagle) waits with its last PUBACKs for our kernel to
   * acknowledge those before them, and that waits up to 40 ms for something to go with it: a PINGREQ does. Once for all
   * that came in one go, and at most `urgesMax` times in a row.
   */
  urge(): void {
    if (this.#urges >= urgesMax) return;
    this.#urging ??= setImmediate(() => {
      this.#urging = undefined;
      if (this.#out.size === 0) return;
      this.#urges += 1;
      this.#client.stream.write(pingRequest);
    });
  }

  #flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#filled === this.#written) return;
    this.#write(this.#chunk.subarray(this.#written, this.#filled));
    this.#written = this.#filled;
  }

  #write(bytes: Uint8Array): void {
    const unanswered = this.#unanswered;
    if (unanswered.length > 0) this.#unanswered = [];
    this.#client.stream.write(bytes, (error) => {
      // Where the connection is gone, its end is told by itself.
      if (!error) for (const rest of unanswered) rest(null);
    });
  }

  /** Answers come to nobody any more. */
  close(): void {
    this.#client.off("packetreceive", this.#onPacket);
    clearImmediate(this.#flushing);
    clearImmediate(this.#urging);
    this.#out.clear();
  }

  #received(packet: Received): void {
    if (packet.cmd !== "puback") return;
    const packetId = packet.messageId ?? 0;
    const rest = this.#out.get(packetId);
    this.#out.delete(packetId);
    const code = packet.reasonCode ?? 0;
    // MQTT 5, 3.4.2.1: from 0x80 on it is an error.
    rest?.(code < 0x80 ? null : code);
  }

  /** [MQTT-2.2.1-3]: not zero, and of nothing that is unacknowledged ([MQTT-2.2.1-4]). */
  #identifier(): number {
    if (this.#out.size >= identifiers) throw new Error("All packet identifiers are in use");
    do this.#last = (this.#last % identifiers) + 1;
    while (this.#out.has(this.#last));
    return this.#last;
  }

  #reserve(bytes: number): void {
    if (this.#chunk.length - this.#filled >= bytes) return;
    this.#flush();
    this.#chunk = Buffer.allocUnsafe(Math.max(chunkBytes, bytes));
    this.#written = 0;
    this.#filled = 0;
  }
}

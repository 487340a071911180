/**
 * What was received and is not acknowledged yet. It outlives connections: a message that was handed to the intake
 * settles whether or not the connection that brought it is still there.
 *
 *   PUBLISH ──► accept ──► held, in order of arrival ──► settled ──► PUBACK / PUBREC, in that order [MQTT-4.6.0-2]
 *   PUBREL  ──► identifier released on disk ──► PUBCOMP
 *
 * QoS 1: an acknowledgement goes to the connection that brought the message or nowhere; the broker sends what it
 * misses again, flagged DUP, and it is taken in again with the header `dup`.
 *
 * QoS 2 ([MQTT-4.3.3], method A of its figure): the identifier becomes durable in the event's own transaction,
 * before PUBREC, and is deleted durably before PUBCOMP. What a crash leaves:
 * - before the commit: neither event nor identifier; the broker sends the PUBLISH again, and it is new;
 * - after it: both; the broker sends the PUBLISH again, its identifier is known, and it is only acknowledged;
 * - after PUBREC: the broker sends PUBREL, again if need be; one for an identifier that is gone is completed at once.
 * A CONNACK without a session makes all identifiers void: they are forgotten on disk before the first SUBSCRIBE, so
 * before the new session can use one.
 *
 * mosquitto before 2.0.12 sends up to a whole window more for each acknowledgement while messages wait in its queue,
 * so that all of the queue is outstanding at once, and it numbers messages without looking whether a number is in
 * use. Beyond 65,535 waiting messages two of them share an identifier. Therefore each identifier is kept with the
 * digest of what it carried: another message under it is taken in. That none is lost is all that can be had then; at
 * QoS 2 such a broker's redeliveries may come twice.
 *
 * Bounds: identifiers are 65,535 at the most; what is held is bounded in `mayRead` (`heldBytesMax`), and the socket
 * is paused above it. The receive maximum is no bound, as said.
 */
import { crc32 } from "node:zlib";
import { Fifo } from "../core/fifo.ts";
import type { Counter } from "../core/metrics.ts";
import { Confirmation } from "./mqtt-confirmation.ts";
import type { MqttConnection } from "./mqtt-connection.ts";
import type { Publish } from "./mqtt-link.ts";
import type { AckWindow } from "./mqtt-window.ts";
import type { Intake } from "./source.ts";
import type { TopicHeaders } from "./topic-pattern.ts";

interface Held {
  readonly connection: MqttConnection;
  readonly qos: 0 | 1 | 2;
  readonly packetId: number;
  isSettled: boolean;
}

/** A QoS 2 identifier whose PUBREL is not done. */
interface Identifier {
  /** False: its message was passed over, so that nothing about it is on disk. */
  readonly isDurable: boolean;
  /** CRC-32 of topic and payload; null: not known. */
  readonly digest: number | null;
  releasedOn: MqttConnection | null;
}

export interface ReceiverParts {
  readonly intake: Intake;
  readonly headers: TopicHeaders;
  readonly skipped: Counter;
  readonly nowMs: () => number;
  /** A message was acknowledged and not taken in: too large, or of a topic that was not asked for. */
  readonly onSkipped: (packet: Publish) => void;
  /** A QoS 2 identifier came with a new message before the one before it was completed. */
  readonly onReused: (packetId: number) => void;
  /** After acknowledgements: `mayRead` may have changed. */
  readonly onSettled: () => void;
}

/** A connection as the receiver needs it. */
export interface Attachment {
  readonly connection: MqttConnection;
  readonly hasSession: boolean;
  /** Flagged messages that are no redelivery are acknowledged and left. */
  readonly skipsRetained: boolean;
  readonly window: AckWindow;
  readonly receiveMaximum: number;
}

/** 8 MiB, an eighth of the heap on the smallest board. Above it the socket is paused. */
export const heldBytesMax = 8 * 1024 * 1024;
/** What holding one message costs beside its payload: about the size of `Held`, its closure and its place. */
const heldBytesEach = 128;

export class MqttReceiver {
  readonly #parts: ReceiverParts;
  readonly #intake: Intake;
  readonly #identifiers = new Map<number, Identifier>();
  /** In order of arrival. */
  readonly #held = new Fifo<Held>();
  #heldBytes = 0;
  /** Messages of the current connection that were taken in and are not acknowledged. */
  #outstanding = 0;
  /** PUBACKs of this burst. */
  #acknowledged = 0;
  #confirmation = new Confirmation(1);
  #attachment: Attachment | null = null;
  #mustForget = false;
  #isPreparing = false;
  /**
   * PUBLISHes that may not be taken in yet: identifiers are being forgotten, or the broker is too far behind with
   * our acknowledgements. Their bytes count as held.
   */
  readonly #early = new Fifo<Publish>();
  #isBursting = false;
  /** PUBRELs of this chunk wait for their commit. */
  #hasReleases = false;
  #outstandingBefore = 0;
  #onEmpty: (() => void)[] = [];

  constructor(parts: ReceiverParts) {
    this.#parts = parts;
    this.#intake = parts.intake;
  }

  /** Before the first connection. */
  async open(): Promise<void> {
    for (const { id, digest } of await this.#intake.packets.read()) {
      this.#identifiers.set(id, { isDurable: true, digest, releasedOn: null });
    }
  }

  get outstanding(): number {
    return this.#outstanding + this.#early.length;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** False: pause the socket. */
  get mayRead(): boolean {
    return !this.#isPreparing && this.#heldBytes < heldBytesMax;
  }

  /**
   * From now on messages come from this connection. Resolves when it may be subscribed on: true, unless it was
   * detached meanwhile.
   */
  async attach(attachment: Attachment): Promise<boolean> {
    this.#attachment = attachment;
    this.#outstanding = 0;
    this.#acknowledged = 0;
    this.#confirmation = new Confirmation(attachment.receiveMaximum);
    this.#dropEarly();
    // Kept until it is done: if this connection breaks first, the next one finds the session that it began.
    if (!attachment.hasSession) this.#mustForget = true;
    if (this.#mustForget) await this.#forget(attachment);
    return this.#attachment === attachment;
  }

  async #forget(attachment: Attachment): Promise<void> {
    this.#isPreparing = true;
    // What the old session brought and is on its way to disk would put its identifier there after the deletion.
    await this.settled();
    if (this.#attachment !== attachment) return;
    this.#identifiers.clear();
    await this.#intake.packets.forget();
    this.#mustForget = false;
    if (this.#attachment !== attachment) return;
    this.#isPreparing = false;
    this.#takeEarly();
    this.chunkEnded();
  }

  /** The connection is gone, and with it every acknowledgement that it waits for. */
  detach(): void {
    this.#attachment = null;
    this.#outstanding = 0;
    this.#isPreparing = false;
    this.#dropEarly();
  }

  publish(packet: Publish): void {
    if (this.#attachment === null) return;
    if (this.#early.length > 0 || !this.#mayTake) this.#putEarly(packet);
    else this.#take(packet, this.#attachment);
  }

  get #mayTake(): boolean {
    return !this.#isPreparing && this.#confirmation.hasRoom(this.#outstanding);
  }

  #putEarly(packet: Publish): void {
    this.#early.push(packet);
    this.#heldBytes += packet.payload.length + heldBytesEach;
    if (this.#isPreparing || this.#heldBytes < heldBytesMax) return;
    // The PINGRESP lies behind what there is no more memory for.
    if (this.#confirmation.giveUp()) this.#ping();
    this.#takeEarly();
  }

  #takeEarly(): void {
    const attachment = this.#attachment;
    if (attachment === null) return;
    while (this.#mayTake) {
      const packet = this.#early.first();
      if (packet === undefined) return;
      this.#early.shift();
      this.#heldBytes -= packet.payload.length + heldBytesEach;
      this.#take(packet, attachment);
    }
  }

  /** They were never taken in: the broker sends them again. */
  #dropEarly(): void {
    for (const { payload } of this.#early.clear()) {
      this.#heldBytes -= payload.length + heldBytesEach;
    }
  }

  #take(packet: Publish, attachment: Attachment): void {
    const { topic, payload, qos, packetId, dup } = packet;
    if (qos > 0) this.#outstanding++;
    const held: Held = { connection: attachment.connection, qos, packetId, isSettled: false };
    this.#held.push(held);
    const digest = qos === 2 ? crc32(payload, crc32(topic)) : null;
    // Its PUBREC waits its turn, behind the original's if that is not on disk yet.
    if (qos === 2 && this.#isRepetition(packetId, digest)) return this.#settle(held, 0);
    const header = this.#parts.headers.of(topic);
    const isUnfit = header === null || packet.oversizeBytes > 0;
    if (isUnfit || (packet.retain && attachment.skipsRetained && !dup)) {
      if (isUnfit) this.#parts.onSkipped(packet);
      this.#parts.skipped.add();
      if (qos === 2)
        this.#identifiers.set(packetId, { isDurable: false, digest, releasedOn: null });
      return this.#settle(held, 0);
    }
    const bytes = payload.length + heldBytesEach;
    this.#heldBytes += bytes;
    const settled = (): void => this.#settle(held, bytes);
    // At QoS 2 a message with DUP that we do not know was never taken in.
    const headers = dup && qos === 1 ? { ...header.headers, dup: "1" } : header.headers;
    if (qos === 2) {
      this.#identifiers.set(packetId, { isDurable: true, digest, releasedOn: null });
      const packet = { id: packetId, digest };
      this.#intake.accept({ headers, fields: header.fields, payload, packet }, settled);
    } else {
      this.#intake.accept({ headers, fields: header.fields, payload }, settled);
    }
  }

  /**
   * By the identifier alone [MQTT-4.3.3-10], unless the broker proves to use one for two messages: it released the
   * first already, or what came is another message. To take a new message for a repetition would lose it.
   */
  #isRepetition(packetId: number, digest: number | null): boolean {
    const known = this.#identifiers.get(packetId);
    if (known === undefined) return false;
    const isReleased =
      known.releasedOn !== null && known.releasedOn === this.#attachment?.connection;
    if (!isReleased && (known.digest === null || known.digest === digest)) return true;
    this.#parts.onReused(packetId);
    return false;
  }

  /** PUBREL. */
  release(packetId: number): void {
    const connection = this.#attachment?.connection;
    if (connection === undefined) return;
    const identifier = this.#identifiers.get(packetId);
    if (identifier === undefined) {
      connection.completeUnknown(packetId);
      this.#confirmation.completed(packetId);
      this.#burst();
      return;
    }
    // Sent twice: the PUBCOMP is on its way.
    if (identifier.releasedOn === connection) return;
    identifier.releasedOn = connection;
    const released = (): void => {
      // By identity: after its PUBCOMP the number may be in use again.
      if (this.#identifiers.get(packetId) === identifier) this.#identifiers.delete(packetId);
      if (this.#attachment?.connection !== connection) return;
      connection.acknowledge("pubcomp", packetId);
      this.#confirmation.completed(packetId);
      this.#burst();
    };
    if (!identifier.isDurable) return released();
    this.#hasReleases = true;
    this.#intake.packets.release(packetId, released);
  }

  /** One chunk was handed over: asks for a commit when the broker would wait for it. */
  chunkEnded(): void {
    const window = this.#attachment?.window;
    if (window === undefined) return;
    window.arrived(this.#outstanding, this.#parts.nowMs());
    // PUBRELs come in the bursts in which their PUBRECs went: one commit takes them all. Left to the linger their
    // identifiers pile up, and a broker that counts on without looking (mosquitto) gives one in use to a new message.
    if (this.#outstanding >= window.size || this.#hasReleases) this.#intake.commitSoon();
    this.#hasReleases = false;
  }

  /** Resolves when nothing is held; asks for the commit that it takes. */
  async settled(): Promise<void> {
    if (this.#held.length === 0) return;
    this.#intake.commitSoon();
    await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
  }

  #settle(held: Held, bytes: number): void {
    held.isSettled = true;
    this.#heldBytes -= bytes;
    if (!this.#isBursting) this.#burst();
    const connection = this.#attachment?.connection;
    for (;;) {
      const first = this.#held.first();
      if (first === undefined || !first.isSettled) return;
      this.#held.shift();
      // A lost connection's acknowledgements are forgotten: the identifier means nothing on this one.
      if (first.qos === 0 || first.connection !== connection) continue;
      this.#outstanding--;
      if (first.qos === 1) this.#acknowledged++;
      else this.#confirmation.recorded(first.packetId);
      connection.acknowledge(first.qos === 1 ? "puback" : "pubrec", first.packetId);
    }
  }

  /** The messages of one commit settle in one go: what they lead to is done once, after the last of them. */
  #burst(): void {
    if (this.#isBursting) return;
    this.#isBursting = true;
    this.#outstandingBefore = this.#outstanding;
    process.nextTick(() => this.#endBurst());
  }

  #endBurst(): void {
    this.#isBursting = false;
    const attachment = this.#attachment;
    if (attachment !== null) {
      attachment.connection.flush();
      this.#confirm();
      const { window } = attachment;
      if (this.#outstanding === 0 && this.#outstandingBefore > 0) {
        window.flushed(this.#outstandingBefore, this.#parts.nowMs());
      }
      // Arrived while the last commit was under way, and the broker waits for them already.
      if (this.#outstanding >= window.size) this.#intake.commitSoon();
    }
    if (this.#held.length === 0) {
      const waiting = this.#onEmpty;
      this.#onEmpty = [];
      for (const resolve of waiting) resolve();
    }
    this.#parts.onSettled();
  }

  #confirm(): void {
    const count = this.#acknowledged;
    this.#acknowledged = 0;
    if (this.#confirmation.wrote(count)) this.#ping();
    this.#takeEarly();
  }

  #ping(): void {
    const attachment = this.#attachment;
    attachment?.connection.ping(() => {
      if (this.#attachment !== attachment) return;
      if (this.#confirmation.answered()) this.#ping();
      this.#takeEarly();
    });
  }
}

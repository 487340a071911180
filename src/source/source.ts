/**
 * A source puts events in.
 *
 * It reports, the loop decides: a source hands over what it received and is told when that is safe. It never
 * acknowledges anything before `settled`, keeps no queue of its own beyond its protocol's window, and stops
 * reading while the intake has no room.
 */
import type { Headers } from "../core/event.ts";
import { text } from "../core/field.ts";

export interface Source {
  /**
   * Starts. A far side that cannot be reached is not a failure: the source goes on trying and says so through
   * its health. @throws HoldfastError of kind `config` for what a person must mend
   */
  open(intake: Intake): Promise<void>;
  /** Stops taking in; what was accepted and settles within `graceMs` is still acknowledged. May be called twice. */
  close(graceMs: number): Promise<void>;
}

export interface Message {
  /** Flat text pairs; for MQTT `topic` and what the topic matched. Parts may share one frozen object. */
  readonly headers: Headers;
  /** The names in `headers` that become fields of a JSON object payload which lacks them. */
  readonly fields?: readonly string[];
  /** Copied before `accept` returns. */
  readonly payload: Uint8Array;
  /** QoS 2: made durable together with the event, until `release`. */
  readonly packet?: Packet;
}

/** A packet identifier of QoS 2 and what it carried. */
export interface Packet {
  readonly id: number;
  /** CRC-32 of topic and payload; null: not known, it was kept by a version that did not. */
  readonly digest: number | null;
}

export interface Intake {
  /**
   * Takes one message. `settled` is called once, in the order of the calls, when the message is on disk, as an
   * event or as a dead letter; never if the agent ends before that.
   */
  accept(message: Message, settled: () => void): void;
  /** False: pause the socket, skip the poll (and count it). */
  hasRoom(): boolean;
  /** Calls `listener` each time that room returns. */
  onRoom(listener: () => void): void;
  /** The source's window is full: commit now. */
  commitSoon(): void;
  readonly packets: {
    /** Identifiers that were made durable and not released ([MQTT-4.3.3]). */
    read(): Promise<readonly Packet[]>;
    /** Forgets one; `settled` when that is on disk. */
    release(packetId: number, settled: () => void): void;
    /** The far side has no session: forgets all, durably. */
    forget(): Promise<void>;
  };
}

/** What every kind of source lets the user say. */
export const sourceOptions = {
  stream: text({ doc: "The stream that its events enter", example: "readings" }),
};

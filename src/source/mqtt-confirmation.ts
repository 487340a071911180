/**
 * How far the broker is behind with our acknowledgements.
 *
 * With a broker that keeps to the receive maximum that bounds itself. mosquitto before 2.0.12 does not
 * (mqtt-receiver.ts): it sends thousands at once and then reads our acknowledgements one by one, far behind. If this
 * process died then, what lay unread in the broker's socket would be gone with the reset, and all of that would be
 * sent again; and its messages in flight would grow until it has no identifier left that is not in use. So what the
 * broker has not dealt with counts against the receive maximum, and what comes beyond it waits in memory:
 *
 * - QoS 1: PUBACKs that no PINGRESP has covered. Packets are dealt with in order (MQTT 5, 4.6), so a PINGREQ behind
 *   them shows where the broker is.
 * - QoS 2: PUBRECs whose PUBREL has not come, or is not on disk.
 */
export class Confirmation {
  readonly #most: number;
  /** PUBACKs that no PINGRESP has covered yet. */
  #open = 0;
  /** Of those, how many the PINGREQ under way covers; null: none is under way. */
  #asked: number | null = null;
  /** Identifiers whose PUBREC was written: at most 65,535. */
  readonly #recorded = new Set<number>();
  #isGivenUp = false;

  /** `most`: the receive maximum. */
  constructor(most: number) {
    this.#most = most;
  }

  /** True when one more may be taken in while `taken` wait for their acknowledgement. */
  hasRoom(taken: number): boolean {
    return this.#isGivenUp || taken + this.#open + this.#recorded.size < this.#most;
  }

  /** A PUBREC goes out. */
  recorded(packetId: number): void {
    this.#recorded.add(packetId);
  }

  /** A PUBCOMP goes out. */
  completed(packetId: number): void {
    this.#recorded.delete(packetId);
  }

  /** So many PUBACKs were written. True: send a PINGREQ now, and call `answered` at its PINGRESP. */
  wrote(count: number): boolean {
    this.#open += count;
    // At a quarter, so that the answer is there before the bound is reached, and a slow trickle costs no packets.
    return this.#open >= this.#most / 4 && this.#ask();
  }

  /** True: send another PINGREQ. */
  answered(): boolean {
    this.#open -= this.#asked ?? 0;
    this.#asked = null;
    this.#isGivenUp = false;
    return this.wrote(0);
  }

  /**
   * Memory is full of what waits for an answer that lies behind it: all is taken in until the PINGRESP to what was
   * sent so far. True: send a PINGREQ.
   */
  giveUp(): boolean {
    this.#isGivenUp = true;
    return this.#ask();
  }

  #ask(): boolean {
    if (this.#asked !== null) return false;
    this.#asked = this.#open;
    return true;
  }
}

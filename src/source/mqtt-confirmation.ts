/**
 * How many acknowledgements the broker may not have read yet, and so how many messages it would send again if this
 * process died now: one that was killed leaves a reset behind, and what lay in the broker's socket is gone with it.
 *
 * The receive maximum bounds that with a broker that keeps to it. mosquitto before 2.0.12 does not (mqtt-receiver.ts):
 * it sends thousands at once and then reads our acknowledgements one by one, far behind. A PINGREQ after
 * acknowledgements shows where it is: it answers in order (MQTT 5, 4.6), so that its PINGRESP covers all that went
 * before. Until then no more than the receive maximum is taken in, and what comes beyond waits in memory.
 */
export class Confirmation {
  readonly #most: number;
  /** PUBACKs that no PINGRESP has covered yet. */
  #open = 0;
  /** Of those, how many the PINGREQ under way covers; null: none is under way. */
  #asked: number | null = null;
  #isGivenUp = false;

  /** `most`: the receive maximum. */
  constructor(most: number) {
    this.#most = most;
  }

  /** True when one more may be taken in while `taken` wait for their acknowledgement. */
  hasRoom(taken: number): boolean {
    return this.#isGivenUp || taken + this.#open < this.#most;
  }

  /** So many PUBACKs were written. True: send a PINGREQ now, and call `answered` at its PINGRESP. */
  wrote(count: number): boolean {
    this.#open += count;
    return this.#ask();
  }

  /** True: send another PINGREQ. */
  answered(): boolean {
    this.#open -= this.#asked ?? 0;
    this.#asked = null;
    this.#isGivenUp = false;
    return this.#ask();
  }

  /** Memory is full of what waits for an answer that lies behind it: all is taken in until the answer is there. */
  giveUp(): void {
    this.#isGivenUp = true;
  }

  /** At a quarter, so that the answer is there before the bound is reached, and a slow trickle costs no packets. */
  #ask(): boolean {
    if (this.#asked !== null || this.#open < this.#most / 4) return false;
    this.#asked = this.#open;
    return true;
  }
}

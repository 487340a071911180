/**
 * Keeps a connection alive, and notices when it is not (MQTT 5, 3.1.2.10).
 *
 * A PINGREQ goes out when we have been silent, so that the broker keeps us, or when the broker has been, so that a
 * dead one is found: TCP alone takes a quarter of an hour. While the socket is paused nothing can be heard, so
 * silence then proves nothing.
 */
import type { Clock, Timer } from "../core/clock.ts";

export interface KeepAliveActions {
  ping(): void;
  /** Nothing was heard for one and a half times the interval since the PINGREQ. */
  dead(): void;
}

export class KeepAlive {
  readonly #clock: Clock;
  readonly #actions: KeepAliveActions;
  #intervalMs = 0;
  #timer: Timer | null = null;
  #sentMs = 0;
  #heardMs = 0;
  #pingedMs: number | null = null;
  #isDeaf = false;

  constructor(clock: Clock, actions: KeepAliveActions) {
    this.#clock = clock;
    this.#actions = actions;
  }

  /** 0 turns it off ([MQTT-3.1.2.10]). */
  start(intervalMs: number): void {
    this.#intervalMs = intervalMs;
    if (intervalMs === 0) return;
    this.#sentMs = this.#heardMs = this.#clock.monotonicMs();
    this.#wait();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#intervalMs = 0;
  }

  sent(): void {
    this.#sentMs = this.#clock.monotonicMs();
  }

  heard(): void {
    this.#heardMs = this.#clock.monotonicMs();
    this.#pingedMs = null;
  }

  /** The socket is paused. */
  deafen(): void {
    this.#isDeaf = true;
  }

  listen(): void {
    if (!this.#isDeaf) return;
    this.#isDeaf = false;
    this.#heardMs = this.#clock.monotonicMs();
    this.#pingedMs = null;
  }

  #wait(): void {
    // A quarter: what is due after half an interval is then never later than three quarters of it.
    this.#timer = this.#clock.after(this.#intervalMs / 4, () => this.#look());
  }

  #look(): void {
    const now = this.#clock.monotonicMs();
    const pinged = this.#pingedMs;
    if (pinged !== null && !this.#isDeaf && now - pinged >= 1.5 * this.#intervalMs) {
      this.#actions.dead();
      return;
    }
    const isSilent = now - this.#sentMs >= this.#intervalMs / 2;
    const isUnheard = now - this.#heardMs >= this.#intervalMs / 2;
    if (isSilent || (isUnheard && pinged === null)) {
      this.#actions.ping();
      this.#sentMs = now;
      this.#pingedMs ??= this.#isDeaf ? null : now;
    }
    this.#wait();
  }
}

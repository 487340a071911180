/**
 * What lies between a client's PUBLISH and its acknowledgement.
 *
 *   passed by the gate ─► waiting (the intake has no room) ─► held (handed over) ─► settled: aedes may go on
 *
 * Everything keeps the order of arrival, so a client's messages do too. What is still here when the agent dies was
 * not acknowledged, and its sender has it.
 *
 * Bounds: `publishesMax` for each connection, counted until aedes has passed a message on to its subscribers, so
 * that a slow subscriber is felt too; and `bytesMax` over all, beyond which no gate opens. One packet more than
 * that may lie in the parser of each connection.
 */
import type { Clock } from "../core/clock.ts";
import { AckWindow } from "./mqtt-window.ts";
import type { Intake, Message } from "./source.ts";

/** As many as a commit packs best (measured: beyond 1,024 events a chunk gains little). */
const publishesMax = 1000;
/** Eight of the largest packets; small ones meet the other bound first. */
const bytesMax = 8 * 1024 * 1024;
/** mosquitto's and paho's own bound of unacknowledged publishes: clients that have one mostly have this. */
const windowGuess = 20;

export interface Publisher {
  /** Publishes of this connection that aedes is not done with. */
  open: number;
  /** Of those, the ones that the client waits for. */
  unacknowledged: number;
  /** The most of them since none was. */
  peak: number;
  readonly pace: AckWindow;
  readonly resume: () => void;
}

interface Waiting {
  readonly publisher: Publisher;
  readonly message: Message;
  readonly isAcknowledged: boolean;
  readonly goOn: () => void;
}

export class BrokerWindow {
  readonly #intake: Intake;
  readonly #clock: Clock;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #held = 0;
  readonly #blocked = new Set<Publisher>();
  #onIdle: (() => void) | null = null;

  constructor(intake: Intake, clock: Clock) {
    this.#intake = intake;
    this.#clock = clock;
    intake.onRoom(() => this.#drain());
  }

  get figures(): { inFlight: number; waiting: number; waitingBytes: number } {
    return { inFlight: this.#held, waiting: this.#waiting.length, waitingBytes: this.#bytes };
  }

  publisher(resume: () => void): Publisher {
    // Unlike a broker of ours, a publisher's window may be all that its memory holds: hence the ceiling.
    const pace = new AckWindow(windowGuess, publishesMax / 2);
    return { open: 0, unacknowledged: 0, peak: 0, pace, resume };
  }

  mayPass(publisher: Publisher): boolean {
    const isFull = publisher.open >= publishesMax || this.#bytes >= bytesMax;
    if (!isFull) return true;
    this.#blocked.add(publisher);
    if (this.#held > 0) this.#intake.commitSoon();
    return false;
  }

  /** aedes began with a message; it says `end` for each one. */
  begin(publisher: Publisher): void {
    publisher.open++;
  }

  end(publisher: Publisher): void {
    publisher.open--;
    this.#unblock();
  }

  /**
   * `goOn` is called when aedes may answer: after the commit if the message is to be acknowledged (QoS 1 or 2),
   * else as soon as it is handed over, since QoS 0 is promised nothing.
   */
  take(publisher: Publisher, message: Message, isAcknowledged: boolean, goOn: () => void): void {
    this.#bytes += message.payload.length;
    const waiting = { publisher, message, isAcknowledged, goOn };
    if (this.#waiting.length > 0 || !this.#intake.hasRoom()) this.#waiting.push(waiting);
    else this.#accept(waiting);
  }

  /** Forgets what waits, which nobody was promised, and resolves when all that was handed over is settled. */
  idle(): Promise<void> {
    this.#waiting = [];
    if (this.#held === 0) return Promise.resolve();
    this.#intake.commitSoon();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  #drain(): void {
    let count = 0;
    for (const waiting of this.#waiting) {
      if (!this.#intake.hasRoom()) break;
      count++;
      this.#accept(waiting);
    }
    this.#waiting.splice(0, count);
    this.#unblock();
  }

  #accept({ publisher, message, isAcknowledged, goOn }: Waiting): void {
    this.#held++;
    const bytes = message.payload.length;
    if (isAcknowledged) this.#arrived(publisher);
    this.#intake.accept(message, () => {
      this.#held--;
      this.#bytes -= bytes;
      if (isAcknowledged) {
        this.#acknowledged(publisher);
        goOn();
      }
      this.#unblock();
      if (this.#held === 0) this.#onIdle?.();
    });
    if (!isAcknowledged) goOn();
    else if (publisher.unacknowledged >= publisher.pace.size) this.#intake.commitSoon();
  }

  #arrived(publisher: Publisher): void {
    publisher.unacknowledged++;
    publisher.peak = Math.max(publisher.peak, publisher.unacknowledged);
    publisher.pace.arrived(publisher.unacknowledged, this.#clock.monotonicMs());
  }

  #acknowledged(publisher: Publisher): void {
    if (--publisher.unacknowledged > 0) return;
    publisher.pace.flushed(publisher.peak, this.#clock.monotonicMs());
    publisher.peak = 0;
  }

  #unblock(): void {
    if (this.#blocked.size === 0 || this.#bytes >= bytesMax) return;
    for (const publisher of this.#blocked) {
      if (publisher.open >= publishesMax) continue;
      this.#blocked.delete(publisher);
      publisher.resume();
    }
  }

  /** The connection is gone. */
  leave(publisher: Publisher): void {
    this.#blocked.delete(publisher);
  }
}

/** SUBSCRIBE and its answer: at each connection, since the broker may have another idea of the session than we. */
import type { Clock, Timer } from "../core/clock.ts";
import type { MqttConnection } from "./mqtt-connection.ts";
import type { Subscription } from "./mqtt-link.ts";
import { reasonText } from "./mqtt-reasons.ts";

/** A refused subscription is asked for again, since access rules are changed at the broker. */
const againMs = 60_000;

export class Subscriber {
  readonly #clock: Clock;
  readonly #subscriptions: readonly Subscription[];
  /** In the order of the last SUBSCRIBE, which SUBACK keeps ([MQTT-3.8.4-6]). */
  #asked: readonly Subscription[] = [];
  /** What is wrong, by filter. */
  readonly #problems = new Map<string, string>();
  #timer: Timer | null = null;

  constructor(clock: Clock, subscriptions: readonly Subscription[]) {
    this.#clock = clock;
    this.#subscriptions = subscriptions;
  }

  start(connection: MqttConnection): void {
    this.#problems.clear();
    this.#ask(connection, this.#subscriptions);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** SUBACK. Says what is not as it was asked for, in one sentence; null: all is. */
  granted(connection: MqttConnection, codes: readonly number[]): string | null {
    const refused = this.#asked.filter(({ filter, qos }, index) => {
      const code = codes[index] ?? 0x80;
      this.#problems.delete(filter);
      if (code >= 0x80) this.#problems.set(filter, `refuses topic ${filter}: ${reasonText(code)}`);
      // It may lower the QoS ([MQTT-3.8.4-8]), which also lowers what we promise.
      else if (code < qos)
        this.#problems.set(filter, `grants topic ${filter} QoS ${code}, not ${qos}`);
      return code >= 0x80;
    });
    if (refused.length > 0) {
      this.#timer = this.#clock.after(againMs, () => this.#ask(connection, refused));
    }
    if (this.#problems.size === 0) return null;
    return `Broker ${connection.address} ${[...this.#problems.values()].join("; it ")}`;
  }

  #ask(connection: MqttConnection, subscriptions: readonly Subscription[]): void {
    this.#asked = subscriptions;
    connection.subscribe(subscriptions);
  }
}

/**
 * Which protocol to try next: MQTT 5 first, since it alone keeps a session for a stated time, has a window that we
 * set, and says why it refuses. A broker that does not know it says so (0x84, or return code 1 of 3.1.1), or hangs
 * up on the CONNECT, which may have other reasons too; so that is believed for one attempt only.
 */
import type { End, Protocol } from "./mqtt-link.ts";

/** A broker is upgraded seldom; an hour is soon enough to notice, and asking costs one refused connection. */
const rememberMs = 3_600_000;

export class ProtocolChoice {
  readonly #wanted: "auto" | 5 | "3.1.1";
  #isOlderNext = false;
  #olderUntilMs = Number.NEGATIVE_INFINITY;

  constructor(wanted: "auto" | 5 | "3.1.1") {
    this.#wanted = wanted;
  }

  /** For the attempt that begins now. */
  next(nowMs: number): Protocol {
    if (this.#wanted !== "auto") return this.#wanted === 5 ? 5 : 4;
    const isOlder = this.#isOlderNext || nowMs < this.#olderUntilMs;
    this.#isOlderNext = false;
    return isOlder ? 4 : 5;
  }

  /** True: the older protocol is worth an attempt at once. */
  ended({ needsOlderProtocol }: End, protocol: Protocol, nowMs: number): boolean {
    if (this.#wanted !== "auto" || protocol === 4 || needsOlderProtocol === "no") return false;
    this.#isOlderNext = true;
    if (needsOlderProtocol === "yes") this.#olderUntilMs = nowMs + rememberMs;
    return true;
  }
}

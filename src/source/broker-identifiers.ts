/**
 * QoS 2 identifiers that clients of the embedded broker have in use [MQTT-4.3.3-2].
 *
 *   begin ─► pending (not on disk) ─► safe (on disk) ─► PUBREL: forgotten
 *
 * A PUBLISH that is sent again on a new connection while its first one is still pending waits with it; one that is
 * safe is answered and not taken in again. All is forgotten when the process ends: a client then finds no session,
 * and what it sends again is taken in again, marked `dup`.
 *
 * Bound: `identifiersMax` over all clients. The clients that are away the longest are forgotten first.
 */

/** All that one client can have (16 bits); at about 100 bytes each, 6 MiB. Kept in `#makeRoom`. */
const identifiersMax = 65_536;

export class Identifier {
  #isSafe = false;
  #waiting: (() => void)[] = [];
  /** aedes has passed the message on to subscribers. */
  isPassedOn = false;

  /** Calls `goOn` when the message is on disk; at once if it is. In order. */
  whenSafe(goOn: () => void): void {
    if (this.#isSafe) goOn();
    else this.#waiting.push(goOn);
  }

  becomeSafe(): void {
    this.#isSafe = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const goOn of waiting) goOn();
  }
}

export class BrokerIdentifiers {
  readonly #clients = new Map<string, Map<number, Identifier>>();
  readonly #isOnline: (clientId: string) => boolean;
  readonly #max: number;
  #size = 0;

  constructor(isOnline: (clientId: string) => boolean, max = identifiersMax) {
    this.#isOnline = isOnline;
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  find(clientId: string, packetId: number): Identifier | undefined {
    return this.#clients.get(clientId)?.get(packetId);
  }

  /** Null: there is no room. */
  add(clientId: string, packetId: number): Identifier | null {
    if (this.#size >= this.#max && !this.#makeRoom(clientId)) return null;
    const identifier = new Identifier();
    const identifiers = this.#clients.get(clientId) ?? new Map<number, Identifier>();
    this.#clients.set(clientId, identifiers.set(packetId, identifier));
    this.#size++;
    return identifier;
  }

  /** PUBREL came. */
  end(clientId: string, packetId: number): void {
    const entries = this.#clients.get(clientId);
    if (entries?.delete(packetId) !== true) return;
    this.#size--;
    if (entries.size === 0) this.#clients.delete(clientId);
  }

  /** True for the first who asks: it passes the message on to subscribers. */
  isFirst(clientId: string, packetId: number): boolean {
    const identifier = this.find(clientId, packetId);
    if (identifier?.isPassedOn === true) return false;
    if (identifier !== undefined) identifier.isPassedOn = true;
    return true;
  }

  /** Whether the client has any, which makes its session one to be continued. */
  has(clientId: string): boolean {
    return this.#clients.has(clientId);
  }

  /** The client has no session: it will use the same identifiers for other messages. */
  forget(clientId: string): void {
    this.#size -= this.#clients.get(clientId)?.size ?? 0;
    this.#clients.delete(clientId);
  }

  #makeRoom(asking: string): boolean {
    for (const clientId of this.#clients.keys()) {
      if (clientId === asking || this.#isOnline(clientId)) continue;
      this.forget(clientId);
      return true;
    }
    return false;
  }
}

/**
 * What the clients of the embedded broker have subscribed to, those that are away and remembered among them.
 *
 * Bound: `filtersMax` over all clients, kept in `admits`. What is beyond it is refused with the return code 0x80
 * (MQTT 3.1.1, 3.9.3), and the client goes on with the rest.
 */

/** 0.7 to 0.9 KB each with aedes' tree (heap after 10,000 of them). Home Assistant asks for some thousands. */
export const filtersMax = 10_000;

export class BrokerFilters {
  readonly #clients = new Map<string, Set<string>>();
  readonly #max: number;
  #size = 0;

  constructor(max = filtersMax) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  /** Takes it, if there is room; one that the client has already takes none. */
  admits(clientId: string, filter: string): boolean {
    const filters = this.#clients.get(clientId) ?? new Set<string>();
    if (filters.has(filter)) return true;
    if (this.#size >= this.#max) return false;
    this.#clients.set(clientId, filters.add(filter));
    this.#size++;
    return true;
  }

  has(clientId: string, filter: string): boolean {
    return this.#clients.get(clientId)?.has(filter) ?? false;
  }

  /** UNSUBSCRIBE came. */
  end(clientId: string, filters: readonly string[]): void {
    const had = this.#clients.get(clientId);
    for (const filter of filters) if (had?.delete(filter) === true) this.#size--;
    if (had?.size === 0) this.#clients.delete(clientId);
  }

  /** The client is gone, and has no session. */
  forget(clientId: string): void {
    this.#size -= this.#clients.get(clientId)?.size ?? 0;
    this.#clients.delete(clientId);
  }
}

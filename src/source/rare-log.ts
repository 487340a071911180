/** Says what may happen a thousand times a second once in a while, with how often it was not said. */
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";

/** A technician who watches sees it at once; a night of it is 2,880 lines at the most. */
const everyMs = 30_000;
/** Kinds are texts of the program, so this is never met; it bounds the map all the same. */
const kindsMax = 64;

export class RareLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #said = new Map<string, { atMs: number; unsaid: number }>();

  constructor(parts: { readonly log: Log; readonly clock: Clock }) {
    this.#log = parts.log;
    this.#clock = parts.clock;
  }

  /** `kind` tells which lines are alike. */
  warn(kind: string, message: string): void {
    const nowMs = this.#clock.monotonicMs();
    const said = this.#said.get(kind);
    if (said !== undefined && nowMs - said.atMs < everyMs) {
      said.unsaid++;
      return;
    }
    if (this.#said.size >= kindsMax) this.#said.clear();
    this.#said.set(kind, { atMs: nowMs, unsaid: 0 });
    const unsaid = said?.unsaid ?? 0;
    this.#log.warn(message, unsaid > 0 ? { unsaid } : {});
  }
}

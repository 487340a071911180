/**
 * Says that events were dropped before a group had them: the first of a stream at once, then a sum each minute, since
 * what was thinned has a hole behind nearly every event. Bound: one entry for each stream of the group.
 */
import type { Context } from "../core/context.ts";
import type { StoredEvent } from "../core/event.ts";

const sayEveryMs = 60_000;

export class PassedOver {
  readonly #context: Context;
  readonly #message: (stream: string) => string;
  readonly #unsaid = new Map<string, { events: number; nextMs: number }>();

  constructor(context: Context, message: (stream: string) => string) {
    this.#context = context;
    this.#message = message;
  }

  /** The seqs from `from` to `to`, of which `events` are not there. */
  say(stream: string, from: number, to: number, events: number): void {
    if (events === 0) return;
    const nowMs = this.#context.clock.monotonicMs();
    const unsaid = this.#unsaid.get(stream) ?? { events: 0, nextMs: nowMs };
    this.#unsaid.set(stream, unsaid);
    if (nowMs < unsaid.nextMs) {
      unsaid.events += events;
      return;
    }
    const others =
      unsaid.events > 0 || events < to - from + 1 ? { events: unsaid.events + events } : {};
    this.#context.log.warn(this.#message(stream), { stream, from, to, ...others });
    unsaid.events = 0;
    unsaid.nextMs = nowMs + sayEveryMs;
  }
}

/** How many seqs between the first and the last of these have no event any more. */
export function holesIn(events: readonly StoredEvent[]): number {
  const [first, last] = [events[0], events.at(-1)];
  return first === undefined || last === undefined ? 0 : last.seq - first.seq + 1 - events.length;
}

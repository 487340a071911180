/**
 * The plane in process memory: the newest part of each stream, as long as somebody may still want it.
 *
 *   append ──► [ first … head ] ──► read (each group has its own next seq)
 *                  │
 *                  ├─ what every attached group has acknowledged leaves at once
 *                  └─ over the bound the oldest leave, whoever needs them: those groups are then `behind`
 *
 * Bounds: bytes and events over all streams together (`evict`, below). It holds nothing durable: a crash costs
 * nothing, since groups start from the journal's cursor.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import type { StoredEvent } from "../core/event.ts";
import { Waiters } from "../core/waiters.ts";
import type { Plane } from "./plane.ts";

export interface MemoryPlaneOptions {
  /** Left out: the machine's. */
  readonly clock?: Clock;
  /** Payloads and their envelopes over all streams; default 8 MiB, a tenth of what a Pi Zero's agent may have. */
  readonly bytesMax?: number;
  /** Which streams it wants; left out: all. */
  readonly isRead?: (stream: string) => boolean;
  /** Events over all streams; default 50,000: at 15,000 a second three seconds for a processor to catch up. */
  readonly eventsMax?: number;
}

const defaultBytesMax = 8 * 1024 * 1024;
const defaultEventsMax = 50_000;

/** A group that waits so few events before the head is served from here, not from the journal. */
const nearMax = 1_000;

/** What an event weighs beside payload and key, bytes: the object, its numbers and array slot as measured in V8. */
const envelopeBytes = 160;

interface Group {
  /** The seq that it reads next. */
  next: number;
  acknowledged: number;
}

interface Line {
  /** seq follow each other; those before `start` are gone. */
  events: StoredEvent[];
  start: number;
  /** seq of the oldest event held, or of the next to come when none is. 0: nothing was ever appended. */
  first: number;
  readonly groups: Map<string, Group>;
  /** Wake what waits for news; one for each group that reads. */
  readonly waiters: Waiters;
}

/** A run of appends to one stream, up to seq `last`: the order in which the oldest leave. */
interface Arrival {
  readonly line: Line;
  last: number;
}

export class MemoryPlane implements Plane {
  readonly #clock: Clock;
  readonly #bytesMax: number;
  readonly #eventsMax: number;
  readonly #isRead: (stream: string) => boolean;
  readonly #lines = new Map<string, Line>();
  #arrivals: Arrival[] = [];
  /** When the list of arrivals is next looked through for those whose events are gone. */
  #arrivalsMax = 1024;
  #bytes = 0;
  #events = 0;

  constructor(options: MemoryPlaneOptions = {}) {
    this.#clock = options.clock ?? systemClock(() => "unsynced");
    this.#bytesMax = options.bytesMax ?? defaultBytesMax;
    this.#eventsMax = options.eventsMax ?? defaultEventsMax;
    this.#isRead = options.isRead ?? (() => true);
  }

  open(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    for (const line of this.#lines.values()) {
      line.groups.clear();
      line.waiters.wakeAll();
    }
    this.#lines.clear();
    this.#arrivals = [];
    this.#bytes = 0;
    this.#events = 0;
    return Promise.resolve();
  }

  /** What is held now, for figures. */
  held(): { readonly events: number; readonly bytes: number } {
    return { events: this.#events, bytes: this.#bytes };
  }

  /** It begins at the head, or where a group waits: what is older the readers take from the journal. */
  resume(stream: string, head: number): Promise<number | null> {
    if (!this.#isRead(stream)) return Promise.resolve(null);
    const waiting = [...this.#line(stream).groups.values()].map(({ next }) => next - 1);
    const near = waiting.filter((after) => after < head && after >= head - nearMax);
    return Promise.resolve(Math.min(head, ...near));
  }

  /** It is lost with the process alone. */
  onAnew(): void {
    // Never.
  }

  append(stream: string, events: readonly StoredEvent[]): Promise<void> {
    const line = this.#line(stream);
    let last = 0;
    for (const event of events) {
      const next = line.first + held(line);
      if (line.first !== 0 && event.seq < next) continue;
      if (event.seq !== next) {
        this.#drop(line, held(line));
        line.first = event.seq;
      }
      line.events.push(event);
      this.#bytes += weigh(event);
      this.#events += 1;
      last = event.seq;
    }
    if (last !== 0) {
      this.#arrived(line, last);
      this.#release(line);
      this.#evict();
      line.waiters.wakeAll();
    }
    return Promise.resolve();
  }

  attach(stream: string, group: string, after: number): Promise<void> {
    const line = this.#line(stream);
    line.groups.set(group, { next: after + 1, acknowledged: after });
    this.#release(line);
    line.waiters.wakeAll();
    return Promise.resolve();
  }

  async read(
    stream: string,
    group: string,
    maxEvents: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<readonly StoredEvent[] | "behind"> {
    const line = this.#line(stream);
    const look = (): ReturnType<typeof take> => take(line, group, maxEvents);
    return (await line.waiters.until(look, this.#clock, waitMs, signal)) ?? [];
  }

  acknowledge(stream: string, group: string, seq: number): Promise<void> {
    const line = this.#line(stream);
    const known = line.groups.get(group);
    if (known !== undefined && seq > known.acknowledged) {
      known.acknowledged = seq;
      this.#release(line);
    }
    return Promise.resolve();
  }

  #line(stream: string): Line {
    let line = this.#lines.get(stream);
    if (line === undefined) {
      line = {
        events: [],
        start: 0,
        first: 0,
        groups: new Map(),
        waiters: new Waiters(),
      };
      this.#lines.set(stream, line);
    }
    return line;
  }

  /** Lets go of what every group has acknowledged. */
  #release(line: Line): void {
    if (line.groups.size === 0) return;
    let passed = Number.POSITIVE_INFINITY;
    for (const group of line.groups.values()) passed = Math.min(passed, group.acknowledged);
    this.#drop(line, Math.min(held(line), passed - line.first + 1));
  }

  #arrived(line: Line, last: number): void {
    const newest = this.#arrivals.at(-1);
    if (newest?.line === line) newest.last = last;
    else this.#arrivals.push({ line, last });
    if (this.#arrivals.length > this.#arrivalsMax) {
      this.#arrivals = this.#arrivals.filter(isHeld);
      // Doubling makes the looking cheap; each one left stands for an event, and those are bounded.
      this.#arrivalsMax = Math.max(1024, this.#arrivals.length * 2);
    }
  }

  /** Keeps the bound: the oldest go, whichever stream they are of. */
  #evict(): void {
    let gone = 0;
    for (const arrival of this.#arrivals) {
      while (this.#isOver() && isHeld(arrival)) this.#drop(arrival.line, 1);
      if (!this.#isOver()) break;
      gone += 1;
    }
    if (gone > 0) this.#arrivals.splice(0, gone);
  }

  #isOver(): boolean {
    return this.#bytes > this.#bytesMax || this.#events > this.#eventsMax;
  }

  #drop(line: Line, count: number): void {
    if (count <= 0) return;
    for (let index = line.start; index < line.start + count; index++) {
      this.#bytes -= weigh(line.events[index] as StoredEvent);
    }
    this.#events -= count;
    line.start += count;
    line.first += count;
    // Moving what is left is paid for by the as many that left before.
    if (line.start * 2 >= line.events.length) {
      line.events = line.events.slice(line.start);
      line.start = 0;
    } else {
      // The array must not keep alive what was dropped.
      line.events.fill(undefined as never, line.start - count, line.start);
    }
  }
}

/** Null: there is nothing new. */
function take(
  line: Line,
  group: string,
  maxEvents: number,
): readonly StoredEvent[] | "behind" | null {
  const known = line.groups.get(group);
  if (known === undefined) return "behind";
  if (line.first === 0) return null;
  if (known.next < line.first) return "behind";
  const from = line.start + (known.next - line.first);
  const found = line.events.slice(from, from + maxEvents);
  known.next += found.length;
  return found.length > 0 ? found : null;
}

function held(line: Line): number {
  return line.events.length - line.start;
}

function weigh(event: StoredEvent): number {
  return event.payload.length + (event.key?.length ?? 0) + envelopeBytes;
}

function isHeld({ line, last }: Arrival): boolean {
  return held(line) > 0 && line.first <= last;
}

/**
 * The step `window`: gathers the events of a key into windows of event time and makes one event of each that is over.
 *
 *   event ──► late for all its windows? ── yes ──► STREAM-late, counted
 *                └── no ──► added to them ──► the watermark moves ──► what is over closes, in order of its end
 *
 * A window is over when the watermark (watermark.ts) reaches its end: by newer events, or, when its streams have been
 * silent at their heads for longer than a window and its lateness, by that silence. One that closed does not open
 * again: what comes for it is late. Windows by count close with their last event and know no lateness.
 *
 * Its result tells `start`, `end`, `key`, `count` and the aggregates; its time is the start, so that windows of windows
 * fall where one expects them. A session's end is its last event's time. `provisional`: some of its events came while
 * the clock was not set. `evicted`: it had to close early; events that come later for it open it anew.
 *
 * State: a row for each open window (for sessions: for each key), at most `windows`, each of bounded size
 * (aggregate.ts), and one for the watermark. Changed options begin anew: what was open then is dropped and counted.
 */
import { noHeaders, type Headers } from "../core/event.ts";
import { parseAggregate, type Aggregate } from "./aggregate.ts";
import { failed, keyReader, rowKeyOf } from "./payload.ts";
import type { Event, Step, StepTools, Table } from "./processor.ts";
import {
  afterEvent,
  afterSilence,
  isSpeaking,
  noWatermark,
  onlyOf,
  type Watermark,
} from "./watermark.ts";
import type { WindowSettings } from "./window-options.ts";

/** How many windows close with one event: what is left closes with the next, or in the silence. */
const closesMax = 1_000;
/** The sessions of one key that may be open beside each other, while late events can still join them. */
const sessionsMax = 100;
const markKey = "#";

/** A window that is open. */
interface Open {
  readonly s: number;
  /** Of a session or by count: the time of its last event. */
  readonly e: number;
  readonly n: number;
  /** The aggregates' states. */
  readonly a: readonly unknown[];
  /** 1: some event came while the clock was not set. */
  readonly p?: 1;
}

interface WindowsRow {
  readonly k: string | null;
  readonly l: readonly Open[];
}

interface MarkRow {
  readonly mark: Watermark;
  /** 1: it was moved by an event whose time nobody could judge, since the clock was not set. */
  readonly u?: 1;
  /** The options that the rows were made by. */
  readonly of: string;
}

type Row = WindowsRow | MarkRow;

export function windowStep(options: WindowSettings, tools: StepTools): Step {
  return new Windows(options, tools);
}

class Windows implements Step {
  readonly #options: WindowSettings;
  readonly #tools: StepTools;
  readonly #names: readonly string[];
  readonly #aggregates: readonly Aggregate[];
  readonly #keyOf: (event: Event) => string | null;
  readonly #rows: Table<Row>;
  readonly #fingerprint: string;
  /** No window is over before this; may be too early. */
  #nextEnd = Number.POSITIVE_INFINITY;

  constructor(options: WindowSettings, tools: StepTools) {
    const { tumbling, sliding, session, count, by, aggregate } = options;
    this.#options = options;
    this.#tools = tools;
    this.#names = Object.keys(aggregate);
    this.#aggregates = Object.values(aggregate).map(parseAggregate);
    this.#keyOf = keyReader(by);
    this.#fingerprint = JSON.stringify([tumbling, sliding, session, count, by, aggregate]);
    this.#rows = tools.table<Row>(options.windows + 1, (row) =>
      "l" in row ? (row.l.at(-1)?.e ?? 0) : Number.POSITIVE_INFINITY,
    );
  }

  refresh(): void {
    const known = this.#rows.get(markKey);
    if (known !== undefined && "of" in known && known.of !== this.#fingerprint) {
      const keys = [...this.#rows.entries()].map(([key]) => key);
      for (const key of keys) this.#rows.delete(key);
      this.#tools.count("evicted", keys.length - 1);
      this.#tools.log.warn("The options of a window have changed: what was open is dropped", {
        windows: keys.length - 1,
      });
    } else if (known !== undefined && "mark" in known) {
      const mark = onlyOf(known.mark, this.#tools.streams);
      if (mark !== known.mark) this.#rows.set(markKey, { ...known, mark });
    }
    this.#nextEnd = this.#earliestEnd();
  }

  process(event: Event): readonly Event[] {
    const { count, lateness, ahead } = this.#options;
    const isTimed = (event.clock ?? "synced") === "synced";
    if (isTimed && event.time > event.receivedAt + ahead) {
      throw failed(
        `Step window: the event's time is ${event.time - event.receivedAt} ms ahead of its receipt`,
      );
    }
    if (count !== undefined) return this.#counted(event, count);
    const evicted: Event[] = [];
    const mark = this.#believed(event, evicted);
    if (!this.#put(event, mark.at ?? Number.NEGATIVE_INFINITY, evicted)) this.#late(event, mark.at);
    const next = afterEvent(mark, event.stream, event.time, lateness);
    const isDoubted = !isTimed || (next.at === mark.at && this.#isDoubted());
    if (next !== mark) this.#setMark(next, isDoubted);
    return [...evicted, ...this.#close(next.at, event.stream, event.seq)];
  }

  idleAfterMs(stream: string): number | null {
    const { count, lateness } = this.#options;
    if (count !== undefined || this.#nextEnd === Number.POSITIVE_INFINITY) return null;
    const mark = this.#mark();
    if (mark.at !== null && this.#nextEnd <= mark.at) return 0;
    return isSpeaking(mark, stream) ? this.#length() + lateness : null;
  }

  idle(stream: string): readonly Event[] {
    const before = this.#mark();
    let mark = before;
    if (before.at === null || this.#nextEnd > before.at) {
      mark = afterSilence(before, stream, this.#options.lateness, this.#latestEnd());
      this.#setMark(mark, this.#isDoubted());
    }
    return this.#close(mark.at, stream, 0);
  }

  #mark(): Watermark {
    const row = this.#rows.get(markKey);
    return row !== undefined && "mark" in row ? row.mark : noWatermark;
  }

  #isDoubted(): boolean {
    const row = this.#rows.get(markKey);
    return row !== undefined && "mark" in row && row.u === 1;
  }

  #setMark(mark: Watermark, isDoubted: boolean): void {
    this.#rows.set(markKey, { mark, of: this.#fingerprint, ...(isDoubted && { u: 1 }) });
  }

  /**
   * A watermark that lies in the future would make all late that comes. Where events have their time from this device's
   * clock it was set far ahead and back again; else one came before the clock was set, which could not be judged. Time
   * begins anew with the next event, and what is open there closes early: the silence would go there again.
   */
  #believed(event: Event, evicted: Event[]): Watermark {
    const mark = this.#mark();
    const { clock, log } = this.#tools;
    if (mark.at === null || event.time >= mark.at) return mark;
    if (event.time !== event.receivedAt && !this.#isDoubted()) return mark;
    const latest = clock.wallMs() + this.#options.ahead;
    if (clock.quality() !== "synced" || mark.at <= latest) return mark;
    log.warn("The time of a window's events lay in the future: it begins anew", {
      aheadMs: mark.at - clock.wallMs(),
    });
    const lost = this.#taken(({ s }) => s > latest);
    this.#tools.count("evicted", lost.length);
    for (const { key, open } of lost) {
      evicted.push(this.#result(key, open, event.stream, event.seq, true));
    }
    return noWatermark;
  }

  /** Into the windows of its time that are not over; false: they all are. */
  #put(event: Event, watermark: number, evicted: Event[]): boolean {
    const { session } = this.#options;
    const key = this.#keyOf(event);
    if (session !== undefined) return this.#putInSession(event, key, session, watermark, evicted);
    let isIn = false;
    for (const { start, end } of this.#spans(event.time)) {
      if (end <= watermark) continue;
      isIn = true;
      const rowKey = `${start} ${rowKeyOf(key)}`;
      const row = this.#rows.get(rowKey) as WindowsRow | undefined;
      const open = row?.l[0] ?? this.#opened(start, end);
      this.#set(rowKey, { k: key, l: [this.#with(open, event)] }, event, evicted);
      this.#nextEnd = Math.min(this.#nextEnd, end);
    }
    return isIn;
  }

  /** Sessions that it connects become one. */
  #putInSession(
    event: Event,
    key: string | null,
    gap: number,
    watermark: number,
    evicted: Event[],
  ): boolean {
    const { time } = event;
    const rowKey = rowKeyOf(key);
    const all = (this.#rows.get(rowKey) as WindowsRow | undefined)?.l ?? [];
    const near = all.filter(({ s, e }) => time > s - gap && time < e + gap);
    if (near.length === 0 && time + gap <= watermark) return false;
    const own = this.#with(this.#opened(time, time), event);
    const one = near.reduce((whole, each) => this.#joined(whole, each), own);
    const others = all.filter((each) => !near.includes(each));
    const sessions = [...others, one].toSorted((a, b) => a.s - b.s);
    if (sessions.length > sessionsMax) {
      const [oldest] = sessions.splice(0, 1);
      this.#tools.count("evicted", 1);
      if (oldest) evicted.push(this.#result(key, oldest, event.stream, event.seq, true));
    }
    this.#set(rowKey, { k: key, l: sessions }, event, evicted);
    this.#nextEnd = Math.min(this.#nextEnd, one.e + gap);
    return true;
  }

  #counted(event: Event, size: number): readonly Event[] {
    const key = this.#keyOf(event);
    const rowKey = rowKeyOf(key);
    if (this.#rows.get(markKey) === undefined) {
      this.#setMark(noWatermark, false);
    }
    const before = (this.#rows.get(rowKey) as WindowsRow | undefined)?.l[0];
    const added = this.#with(before ?? this.#opened(event.time, event.time), event);
    const open = {
      ...added,
      s: Math.min(added.s, event.time),
      e: Math.max(added.e, event.time),
    };
    if (open.n >= size) {
      this.#rows.delete(rowKey);
      return [this.#result(key, open, event.stream, event.seq)];
    }
    const evicted: Event[] = [];
    this.#set(rowKey, { k: key, l: [open] }, event, evicted);
    return evicted;
  }

  #set(rowKey: string, row: WindowsRow, { stream, seq }: Event, evicted: Event[]): void {
    // The watermark may have rested longest, as it does where windows are by count, and must not be what goes.
    const mark = this.#rows.size > this.#options.windows ? this.#rows.get(markKey) : undefined;
    if (mark !== undefined) this.#rows.set(markKey, mark);
    const gone = this.#rows.set(rowKey, row)?.[1];
    if (gone === undefined || !("l" in gone)) return;
    for (const each of gone.l) evicted.push(this.#result(gone.k, each, stream, seq, true));
  }

  #opened(start: number, end: number): Open {
    return { s: start, e: end, n: 0, a: this.#aggregates.map(({ empty }) => empty) };
  }

  #with(open: Open, event: Event): Open {
    const a = this.#aggregates.map((each, index) => each.add(open.a[index], event));
    const isMarked = open.p === 1 || (event.clock ?? "synced") !== "synced";
    return { s: open.s, e: open.e, n: open.n + 1, a, ...(isMarked && { p: 1 }) };
  }

  #joined(one: Open, other: Open): Open {
    return {
      s: Math.min(one.s, other.s),
      e: Math.max(one.e, other.e),
      n: one.n + other.n,
      // The other was there first: of two events of one time its own came before.
      a: this.#aggregates.map((each, index) => each.merge(other.a[index], one.a[index])),
      ...((one.p ?? other.p) === 1 && { p: 1 }),
    };
  }

  #late(event: Event, watermark: number | null): void {
    const headers: Headers = { ...event.headers, lateMs: String((watermark ?? 0) - event.time) };
    this.#tools.emit(`${event.stream}-late`, { ...event, headers });
    this.#tools.count("late", 1);
  }

  /** What is over at `watermark`, the first to end first. */
  #close(watermark: number | null, stream: string, seq: number): readonly Event[] {
    if (watermark === null || this.#nextEnd > watermark) return [];
    const closing = this.#taken((open) => this.#endOf(open) <= watermark);
    return closing.map(({ key, open }) => this.#result(key, open, stream, seq));
  }

  /** Out of what is open, the first to end first. */
  #taken(isMeant: (open: Open) => boolean): { key: string | null; open: Open }[] {
    const meant: { rowKey: string; key: string | null; open: Open; end: number }[] = [];
    for (const [rowKey, row] of this.#rows.entries()) {
      if (!("l" in row)) continue;
      for (const open of row.l) {
        if (isMeant(open)) meant.push({ rowKey, key: row.k, open, end: this.#endOf(open) });
      }
    }
    meant.sort((a, b) => a.end - b.end || a.open.s - b.open.s || compare(a.rowKey, b.rowKey));
    const taken = meant.slice(0, closesMax);
    for (const { rowKey, open } of taken) {
      const row = this.#rows.get(rowKey) as WindowsRow;
      const rest = row.l.filter((each) => each !== open);
      if (rest.length === 0) this.#rows.delete(rowKey);
      else this.#rows.set(rowKey, { ...row, l: rest });
    }
    this.#nextEnd = this.#earliestEnd();
    return taken;
  }

  #result(key: string | null, open: Open, stream: string, seq: number, isEvicted = false): Event {
    const { s: start, e: end, n: count } = open;
    const payload: Record<string, unknown> = { start, end, key, count };
    this.#names.forEach((name, index) => {
      payload[name] = this.#aggregates[index]?.result(open.a[index], { start, end, count });
    });
    if (open.p === 1) payload["provisional"] = true;
    if (isEvicted) payload["evicted"] = true;
    const receivedAt = this.#tools.clock.wallMs();
    return { stream, seq, key, time: start, receivedAt, headers: noHeaders, payload };
  }

  /** Where tumbling and sliding windows lie at a time, the first first. */
  #spans(time: number): { readonly start: number; readonly end: number }[] {
    const { tumbling = 1, sliding } = this.#options;
    const { size, every } = sliding ?? { size: tumbling, every: tumbling };
    const spans: { start: number; end: number }[] = [];
    for (let start = Math.floor(time / every) * every; start > time - size; start -= every) {
      spans.push({ start, end: start + size });
    }
    return spans.toReversed();
  }

  #length(): number {
    const { tumbling, sliding, session } = this.#options;
    return tumbling ?? sliding?.size ?? session ?? 0;
  }

  #endOf({ e }: Open): number {
    const { session, count } = this.#options;
    return count === undefined ? e + (session ?? 0) : Number.POSITIVE_INFINITY;
  }

  #earliestEnd(): number {
    return this.#ends().reduce((least, end) => Math.min(least, end), Number.POSITIVE_INFINITY);
  }

  #latestEnd(): number {
    return this.#ends().reduce((most, end) => Math.max(most, end), Number.NEGATIVE_INFINITY);
  }

  #ends(): number[] {
    return [...this.#rows.entries()].flatMap(([, row]) =>
      "l" in row ? row.l.map((open) => this.#endOf(open)) : [],
    );
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The plane on a Valkey or Redis server: each stream of the journal is a stream there, under its own name, for the
 * agent's processors and for any other program on the machine.
 *
 *   append ──► skip what is there ──► XADD 1000000000000+seq-0 ──► over the budget: trim
 *                                          │
 *   attach ──► XGROUP CREATE or SETID ──► XREADGROUP ──► XACK, once the journal has committed
 *
 * **An entry's ID is its seq.** `1000000000000 + seq`, dash, `0`: nothing but the event's place decides it. So an event
 * that is projected again has the same ID, whatever became of the server; order never depends on a clock, which on a
 * device jumps and begins again with each boot; a group's place is computed and not looked for; and a reader that
 * keeps its last ID goes on where it was on an emptied server. Thirteen digits are for Python's PSPF, which compares
 * IDs as text: they stay in order, and bursts within a millisecond, of which it skips all but ten, do not occur. When
 * an event happened is its field `timestamp`.
 *
 * **Who may write.** The hash `holdfast:plane` says which device and epoch projects which stream. What is ours and of
 * another history (a new journal counts from 1 again), or into which another program has written, begins anew, groups
 * kept. What never was ours is not touched: the stream is refused, and processors read it from memory.
 *
 * **The journal's cursor is the only truth.** What the server says of a group is what `attach` told it. Where entries
 * are missing, or what comes is not what must come next, the reader is `behind` and reads the journal. A server that
 * was emptied, restarted or replaced has no mark of ours: each stream is resumed, from its newest part (`refillMax`).
 *
 * Bounds: an answer is about `readBytes`. The entries of all streams together, half of `maxBytes` by their own size (measured: a server takes 0.8 to
 * 1.4 times that). Over it, the oldest that our groups have passed go, then the oldest of all; other programs' groups
 * hold nothing. A server that has no memory (others may fill it too) makes the budget half of what is there. One script
 * carries at most `sliceEvents` or `sliceBytes`, so that it stops the server for no more than a few ms.
 *
 * A crash at any point costs nothing: an append that was not answered is skipped when it comes again.
 */
import { systemClock, type Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { Waiters } from "../core/waiters.ts";
import {
  isGroupGone,
  ValkeyConnection,
  type Argument,
  type ValkeyOptions,
} from "../valkey/connection.ts";
import { decodeStored, encodeProjected } from "../wire/projected.ts";
import { Pack } from "./pack.ts";
import type { Plane } from "./plane.ts";
import { Shelf } from "./shelf.ts";
import { acknowledge, attach, idBase, project, resume } from "./valkey-scripts.ts";

export interface ValkeyPlaneOptions extends Pick<ValkeyOptions, "url"> {
  readonly device: string;
  /** The journal's present epoch. */
  readonly epoch: string;
  /** What the server, or our part of it, may take, bytes. */
  readonly maxBytes: number;
  /** Of each stream; left out: JSON. */
  readonly formats?: ReadonlyMap<string, PayloadFormat>;
  readonly clock?: Clock;
}

const mark = "holdfast:plane";
/** The agent is one reader of each of its groups. */
const consumer = "holdfast";
/** A field of the mark that is always there: no stream has such a name. */
const sign = "@";
/** The server may stall for a large script of another program; beyond this it counts as gone, ms. */
const answerMs = 2_000;
/** How much of a stream is there for other programs after the server has lost it. */
const refillMax = 2_000;
const sliceEvents = 256;
const sliceBytes = 256 * 1024;
/** What an entry weighs beside its values: their headers in the listpack, its ID. */
const entryBytes = 48;
/** About what one answer carries: a batch's 1 MiB of payloads, which lie in an entry twice. */
const readBytes = 2 * 1024 * 1024;
/** How often room is made for one append before the server's memory counts as somebody else's. */
const evictionsMax = 8;

interface Member {
  /** The seq that it is given next. */
  next: number;
  /** What XACK has been told, up to this seq. */
  acknowledged: number;
}

interface Line {
  /** The newest seq on the server, as far as known. */
  head: number;
  /** About what an entry weighs, bytes: the larger ones count for longer. */
  entryBytes: number;
  /** The mark says that we project it. */
  isOurs: boolean;
  readonly members: Map<string, Member>;
  readonly waiters: Waiters;
}

export class ValkeyPlane implements Plane {
  readonly #options: ValkeyPlaneOptions;
  readonly #clock: Clock;
  readonly #connection: ValkeyConnection;
  readonly #lines = new Map<string, Line>();
  readonly #shelf: Shelf;
  #onAnew: () => void = () => undefined;

  constructor(options: ValkeyPlaneOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock(() => "unsynced");
    this.#shelf = new Shelf(options.maxBytes / 2, (stream) => this.#passed(stream));
    const scripts = { resume, project, attach, acknowledge };
    this.#connection = new ValkeyConnection({ url: options.url, answerMs }, scripts);
  }

  /** Without user and password. */
  get description(): string {
    return this.#connection.description;
  }

  /** @throws HoldfastError when the server does not answer or does not let us in */
  async open(): Promise<void> {
    await this.#connection.open();
    await this.#call("HSET", mark, sign, "1");
  }

  close(): Promise<void> {
    this.#forget();
    this.#connection.close();
    return Promise.resolve();
  }

  onAnew(listener: () => void): void {
    this.#onAnew = listener;
  }

  /** Asks the server whether it is there and what it was. @throws HoldfastError STREAM_UNREACHABLE */
  async probe(): Promise<void> {
    if ((await this.#call("HEXISTS", mark, sign)) === 1) return;
    await this.#call("HSET", mark, sign, "1");
    this.#lost();
  }

  async resume(stream: string, head: number): Promise<number> {
    const { device, epoch } = this.#options;
    const line = this.#line(stream);
    const found = Number(await this.#script("resume", stream, [device, epoch, head]));
    line.isOurs = true;
    line.head = Math.max(0, found);
    if (found < 0) {
      this.#shelf.forget(stream);
      return Math.max(0, head - refillMax);
    }
    if (!this.#shelf.holds(stream)) {
      const bytes = Number(await this.#call("MEMORY", "USAGE", stream));
      line.entryBytes = bytes / Math.max(1, Number(await this.#call("XLEN", stream)));
      this.#shelf.put(stream, found, bytes);
    }
    line.waiters.wakeAll();
    return found;
  }

  async append(stream: string, events: readonly StoredEvent[]): Promise<void> {
    const line = this.#line(stream);
    const first = events[0];
    if (first === undefined) return;
    if (!line.isOurs) await this.resume(stream, events.at(-1)?.seq ?? first.seq);
    const format = this.#options.formats?.get(stream) ?? "json";
    const pack = new Pack();
    for (const event of events) {
      pack.add(event.seq, encodeProjected(event, format));
      const isWhole = pack.entries >= sliceEvents || pack.bytes >= sliceBytes;
      if (!isWhole && event !== events.at(-1)) continue;
      const bytes = pack.bytes + pack.entries * entryBytes;
      line.entryBytes = Math.max(bytes / pack.entries, line.entryBytes * 0.9);
      if (!(await this.#put(stream, line, pack.take(), event.seq, bytes))) return;
    }
  }

  async attach(stream: string, group: string, after: number): Promise<void> {
    const { device } = this.#options;
    const line = this.#line(stream);
    await this.#withRoom(() => this.#script("attach", stream, [group, after, consumer, device]));
    line.members.set(group, { next: after + 1, acknowledged: after });
    line.waiters.wakeAll();
  }

  async read(
    stream: string,
    group: string,
    maxEvents: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<readonly StoredEvent[] | "behind"> {
    const line = this.#line(stream);
    const look = (): ReturnType<ValkeyPlane["read"]> | "behind" | null => {
      const member = line.members.get(group);
      if (member === undefined) return "behind";
      return line.head >= member.next ? this.#take(stream, group, member, maxEvents) : null;
    };
    return (await line.waiters.until(look, this.#clock, waitMs, signal)) ?? [];
  }

  async acknowledge(stream: string, group: string, seq: number): Promise<void> {
    const member = this.#lines.get(stream)?.members.get(group);
    if (member === undefined) return;
    // What a group has read from the journal was never handed out here.
    const to = Math.min(seq, member.next - 1);
    if (to <= member.acknowledged) return;
    const from = member.acknowledged + 1;
    member.acknowledged = to;
    await this.#script("acknowledge", stream, [group, from, to]);
  }

  /** One slice; false when the stream is not what it was. */
  async #put(
    stream: string,
    line: Line,
    entries: Uint8Array,
    last: number,
    bytes: number,
  ): Promise<boolean> {
    const { device, epoch } = this.#options;
    const args = [`${device} ${epoch}`, entries];
    const top = Number(await this.#withRoom(() => this.#script("project", stream, args)));
    if (top < last || top > Math.max(last, line.head)) {
      this.#lost();
      return false;
    }
    if (top === line.head) return true;
    line.head = top;
    this.#shelf.put(stream, last, bytes);
    for (const [name, upTo] of this.#shelf.over()) {
      await this.#call("XTRIM", name, "MINID", `${idBase + upTo + 1}-0`);
    }
    line.waiters.wakeAll();
    return true;
  }

  async #take(
    stream: string,
    group: string,
    member: Member,
    maxEvents: number,
  ): Promise<readonly StoredEvent[] | "behind"> {
    const fitting = Math.max(1, Math.floor(readBytes / Math.max(1, this.#line(stream).entryBytes)));
    const count = Math.min(maxEvents, fitting);
    const args = ["GROUP", group, consumer, "COUNT", count, "STREAMS", stream, ">"];
    let events: StoredEvent[];
    try {
      const reply = (await this.#call("XREADGROUP", ...args)) as
        | [Buffer, [Buffer, Buffer[] | null][]][]
        | null;
      events = (reply?.[0]?.[1] ?? []).map(([id, fields]) =>
        decodeStored(stream, Number.parseInt(String(id), 10) - idBase, fields ?? []),
      );
    } catch (thrown) {
      const isTheirs = thrown instanceof HoldfastError && thrown.code === "EVENT_MALFORMED";
      if (isTheirs || isGroupGone(thrown)) return "behind";
      throw thrown;
    }
    // Trimmed, deleted, or handed out to nobody (an answer that came too late): the journal has it.
    if (events[0]?.seq !== member.next) return "behind";
    member.next = (events.at(-1)?.seq ?? 0) + 1;
    return events;
  }

  /** Where the server has no memory, the oldest entries make room. */
  async #withRoom<T>(work: () => Promise<T>): Promise<T> {
    for (let evictions = 0; ; evictions += 1) {
      try {
        return await work();
      } catch (thrown) {
        const isFull = thrown instanceof HoldfastError && /\bOOM\b/.test(thrown.message);
        if (!isFull || evictions === evictionsMax) throw thrown;
        for (const [name, upTo] of this.#shelf.halve()) {
          await this.#call("XTRIM", name, "MINID", `${idBase + upTo + 1}-0`);
        }
      }
    }
  }

  /** The last seq that all our groups have passed. */
  #passed(stream: string): number {
    let passed = Number.POSITIVE_INFINITY;
    for (const { acknowledged } of this.#lines.get(stream)?.members.values() ?? []) {
      passed = Math.min(passed, acknowledged);
    }
    return passed;
  }

  /** The server is not what it was: readers attach again, streams are resumed. */
  #lost(): void {
    this.#forget();
    this.#onAnew();
  }

  #forget(): void {
    this.#shelf.clear();
    for (const line of this.#lines.values()) {
      [line.head, line.isOurs] = [0, false];
      line.members.clear();
      line.waiters.wakeAll();
    }
  }

  #line(stream: string): Line {
    let line = this.#lines.get(stream);
    if (line === undefined) {
      line = { head: 0, entryBytes: 0, isOurs: false, members: new Map(), waiters: new Waiters() };
      this.#lines.set(stream, line);
    }
    return line;
  }

  #call(name: string, ...args: readonly Argument[]): ReturnType<ValkeyConnection["call"]> {
    return this.#connection.call(name, ...args);
  }

  async #script(name: string, stream: string, args: readonly Argument[]): Promise<unknown> {
    try {
      return await this.#connection.script(name, [stream, mark], args);
    } catch (thrown) {
      const found = thrown instanceof HoldfastError && /\bFOREIGN (.+)/.exec(thrown.message);
      if (!found) throw thrown;
      const why = `Key ${stream} on ${this.description} holds ${found[1] ?? ""}`;
      throw new HoldfastError("STREAM_INVALID", why, { cause: thrown });
    }
  }
}

/**
 * What is kept and what goes (invariant 5). Whole chunks only; each stream gives its oldest first.
 *
 * - What every group has passed stays for replay until `maxAge`, or until space is needed: it goes first, and that
 *   is no drop.
 * - What a group has not passed goes only by a quota that the configuration names: a stream's time to live
 *   (`expired`), its `maxBytes` (`stream-bytes`), the journal's (`quota`), or thinning for either (`thinned`). Each
 *   such event is counted, and told in `_gaps`, which itself is never dropped. Where nobody reads `_gaps`, all of it
 *   counts as passed: up to a share of the file it stays all the same, until `maxAge`.
 * - Under the journal's bound the lowest priority gives way first: there what is to be thinned and what is to be
 *   dropped in the order of its commits, then what was thinned already; only then the next priority, and never one
 *   above that of the events which need the room. Streams that reject give nothing: their sources wait.
 *
 * A chunk goes in constant time: one row read, one deleted; finding it is one seek. Room is made in
 * steps of 1 % of `maxBytes`, so that drops come in few large ranges.
 */
import { Gaps, type Gap } from "./gaps.ts";
import { chunkColumns, chunkId, type ChunkRow, type Ledger } from "./ledger.ts";
import { gapsStream } from "./journal.ts";
import type { Dropped, Moment, WorkerSetup } from "./protocol.ts";
import { pageBytesOf, type Db } from "./sqlite.ts";
import { StreamClasses } from "./stream-class.ts";
import { Thinning } from "./thinning.ts";

/**
 * Intake ends 10 % below `maxBytes`; units of work have half of the rest before they too make room, so that
 * cursors, dead letters and trims always find some (invariant 5). Streams that reject stop a little sooner, so that
 * streams above them find room that nobody has to give.
 */
const shares = { heldBack: 0.85, intake: 0.9, units: 0.95 } as const;
/** What units bring in one turn, so that making room for a pile of them does not empty the journal at once. */
const unitsShare = 1 / 8;
const stepShare = 0.01;
/** So much of the file `_gaps` may hold that nobody is to read any more, before its oldest gives room like the rest. */
const gapsShare = 1 / 16;
/**
 * Below a cap that a full disk sets, the shares are of this much, bytes: 10 % of a large journal would be dropped
 * at once only because its disk is full; 3.2 MiB hold twelve of the largest usual turns. Kept in `#limitBytes`.
 */
const cappedMarginBytes = 32 * 1024 * 1024;
/** A stream at its own bound gives way in steps of this share of it. */
const streamStepShare = 1 / 32;
/** One turn thins no more than it needs and this much, bytes, so that it stays short; the next goes on. */
const thinStepBytes = 512 * 1024;
/** Chunks of one stream that one turn trims for age, so that a turn stays short; the next goes on. */
const agedPerTurnMax = 64;

interface Victim {
  readonly stream: string;
  readonly chunk: ChunkRow;
  readonly thin: boolean;
}

/** What each stream would give next; only the one that has given is asked again, so a chunk costs one seek. */
class Offers {
  readonly #names: readonly string[];
  readonly #ask: (stream: string) => Victim | undefined;
  readonly #offers = new Map<string, Victim | undefined>();

  constructor(names: readonly string[], ask: (stream: string) => Victim | undefined) {
    this.#names = names;
    this.#ask = ask;
  }

  /** Of what they offer, what was committed first; it is expected to go. */
  take(): Victim | undefined {
    let found: Victim | undefined;
    for (const name of this.#names) {
      if (!this.#offers.has(name)) this.#offers.set(name, this.#ask(name));
      const offer = this.#offers.get(name);
      if (offer !== undefined && (found === undefined || offer.chunk.made < found.chunk.made))
        found = offer;
    }
    if (found !== undefined) this.#offers.delete(found.stream);
    return found;
  }
}

export class Retention {
  readonly #db: Db;
  readonly #ledger: Ledger;
  readonly #setup: WorkerSetup;
  readonly #classes: StreamClasses;
  readonly #thinning: Thinning;
  readonly #gaps: Gaps;
  readonly #oldest;
  readonly #delete;
  readonly #offset;
  readonly #pages;
  readonly #pageBytes: number;
  readonly #freePages;
  /** What lay in the file for each byte that came, at a stream's last chunk. */
  readonly #ratios = new Map<string, number>();
  #dropped: Dropped[] = [];
  #maxBytes: number;

  constructor(db: Db, ledger: Ledger, setup: WorkerSetup) {
    this.#maxBytes = setup.maxBytes;
    this.#db = db;
    this.#ledger = ledger;
    this.#setup = setup;
    this.#classes = new StreamClasses(setup);
    this.#thinning = new Thinning(db, ledger);
    this.#gaps = new Gaps(db);
    this.#oldest = db.prepare(
      `SELECT ${chunkColumns} FROM chunk WHERE id >= ? AND id < ? ORDER BY id LIMIT 1`,
    );
    this.#delete = db.prepare("DELETE FROM chunk WHERE id = ?");
    this.#offset = db.prepare("SELECT offset_ms FROM boot WHERE ordinal = ?").pluck();
    this.#pageBytes = pageBytesOf(db);
    this.#pages = db.prepare("PRAGMA page_count").pluck();
    this.#freePages = db.prepare("PRAGMA freelist_count").pluck();
  }

  /** Of the file, bytes: what is in use, and all that it takes on the disk. */
  space(): { usedBytes: number; fileBytes: number } {
    return {
      usedBytes: this.usedBytes(),
      fileBytes: (this.#pages.get() as number) * this.#pageBytes,
    };
  }

  usedBytes(): number {
    const pages = (this.#pages.get() as number) - (this.#freePages.get() as number);
    return pages * this.#pageBytes;
  }

  /** What was dropped since this was last called; after a rollback nothing was. */
  takeDropped(): readonly Dropped[] {
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  /** The streams for whose bytes there is no room, also after trimming and, by policy, thinning and dropping. */
  refuse(incoming: ReadonlyMap<string, number>, now: Moment): ReadonlySet<string> {
    const refused = new Set<string>();
    const above = (stream: string): number => -this.#classes.of(stream).priority;
    let taken = 0;
    for (const [stream, bytes] of [...incoming].toSorted(([a], [b]) => above(a) - above(b))) {
      const { whenFull, priority } = this.#classes.of(stream);
      const isHeldBack = whenFull === "reject" && priority < this.#classes.highest;
      const whose = isHeldBack ? "heldBack" : "intake";
      if (this.mayGrow(stream, bytes, now) && this.makeRoom(taken + bytes, now, whose, priority)) {
        taken += bytes;
      } else refused.add(stream);
    }
    return refused;
  }

  /** False: the stream would pass its `maxBytes`, and rejects. What every group has passed goes for it. */
  mayGrow(name: string, rawBytes: number, now: Moment): boolean {
    const { whenFull, maxBytes } = this.#classes.of(name);
    if (whenFull !== "reject" || maxBytes === Number.POSITIVE_INFINITY) return true;
    const bytes = rawBytes * (this.#ratios.get(name) ?? 1);
    for (;;) {
      if (this.#bytesOf(name) + bytes <= maxBytes) return true;
      const chunk = this.#oldestOf(name);
      // What does not fit into an empty stream will never fit better.
      if (chunk === undefined) return true;
      if (chunk.last > this.#ledger.passed(name)) return false;
      this.#remove(name, chunk, "stream-bytes", now);
    }
  }

  /** True when `bytes` more of that priority may come in, after trimming and, by policy, thinning and dropping. */
  makeRoom(
    bytes: number,
    now: Moment,
    whose: keyof typeof shares,
    priority = Number.POSITIVE_INFINITY,
  ): boolean {
    const limit = this.#limitBytes(whose);
    if (this.usedBytes() + bytes <= limit) return true;
    const goal = limit - bytes - this.#maxBytes * stepShare;
    this.#trimPassed(goal, now);
    if (this.usedBytes() + bytes <= limit) return true;
    this.#giveWay(goal, limit - bytes, priority, now);
    // With nothing left to wait for, only SQLite itself can say whether it fits.
    return this.usedBytes() + bytes <= limit || !this.#keepsAny();
  }

  /** How many bytes units may bring into this turn, of `wanted`. */
  roomForUnits(wanted: number, streams: readonly string[], now: Moment): number {
    const most = Math.min(wanted, this.#maxBytes * unitsShare);
    const priorities = streams.map((stream) => this.#classes.of(stream).priority);
    const priority = priorities.length === 0 ? undefined : Math.max(...priorities);
    if (this.makeRoom(most, now, "units", priority)) return most;
    return this.#limitBytes("units") - this.usedBytes();
  }

  /** A chunk was written: how much its bytes shrank tells about those to come. */
  wrote(name: string, rawBytes: number, storedBytes: number): void {
    this.#ratios.set(name, storedBytes / rawBytes);
  }

  /** The disk has no more than `bytes` for the file, for now: as if `maxBytes` were that; Infinity: it has. */
  capAt(bytes: number): void {
    this.#maxBytes = Math.min(this.#setup.maxBytes, bytes);
  }

  #limitBytes(whose: keyof typeof shares): number {
    const { maxBytes } = this.#setup;
    if (this.#maxBytes === maxBytes) return maxBytes * shares[whose];
    const marginBytes = (1 - shares[whose]) * Math.min(this.#maxBytes, cappedMarginBytes);
    return Math.min(maxBytes * shares[whose], this.#maxBytes - marginBytes);
  }

  /** The streams' own quotas, and `maxAge` of the whole. Ages count only between synced times (invariant 9). */
  enforceQuotas(now: Moment): void {
    for (const name of this.#ledger.names()) {
      this.#expire(name, now);
      this.enforceBytes(name, now);
    }
  }

  /** A stream's `maxBytes`, by what is to give way there. */
  enforceBytes(name: string, now: Moment): void {
    const { whenFull, maxBytes } = this.#classes.of(name);
    if (this.#bytesOf(name) <= maxBytes) return;
    const goal = maxBytes * (1 - streamStepShare);
    while (this.#bytesOf(name) > goal) {
      const chunk = this.#oldestOf(name);
      // The newest chunk stays, however small the quota.
      if (chunk === undefined || chunk.last === this.#ledger.known(name)?.head) return;
      const isPassed = chunk.last <= this.#ledger.passed(name);
      if (!isPassed && whenFull === "reject") return;
      const thins = !isPassed && whenFull === "thin" && this.#thinning.candidate(name);
      if (thins) this.#thin(name, this.#bytesOf(name) - goal, now);
      else this.#remove(name, chunk, "stream-bytes", now);
    }
  }

  /** What every group has passed goes when it is old; what none has passed, only by the stream's own time to live. */
  #expire(name: string, now: Moment): void {
    if (now.clock !== "synced") return;
    const { maxAgeMs, replayMs } = this.#classes.of(name);
    for (let count = 0; count < agedPerTurnMax; count++) {
      const chunk = this.#oldestOf(name);
      const madeAtMs = chunk === undefined ? null : this.#madeAtMs(chunk);
      if (chunk === undefined || madeAtMs === null || now.wallMs - madeAtMs <= replayMs) return;
      if (maxAgeMs === null && chunk.last > this.#ledger.passed(name)) return;
      this.#remove(name, chunk, "expired", now);
    }
  }

  /** By the wall clock; null when the clock was never synced in that boot. */
  #madeAtMs(chunk: ChunkRow): number | null {
    if (chunk.synced === 1) return chunk.at;
    const offsetMs = this.#offset.get(chunk.boot) as number | null | undefined;
    return offsetMs === null || offsetMs === undefined ? null : offsetMs + chunk.at;
  }

  #trimPassed(goalBytes: number, now: Moment): void {
    const offers = new Offers(this.#ledger.names(), (name) => {
      const chunk = this.#oldestOf(name);
      const isPassed = chunk !== undefined && chunk.last <= this.#ledger.passed(name);
      const isSpared = name === gapsStream && this.#bytesOf(name) <= this.#maxBytes * gapsShare;
      return isPassed && !isSpared ? { stream: name, chunk, thin: false } : undefined;
    });
    while (this.usedBytes() > goalBytes) {
      const victim = offers.take();
      if (victim === undefined) return;
      this.#remove(victim.stream, victim.chunk, "quota", now);
    }
  }

  /** Down to `goalBytes`; where that takes thinning, which costs more than dropping, to little below `neededBytes`. */
  #giveWay(goalBytes: number, neededBytes: number, priority: number, now: Moment): void {
    const thinGoalBytes = Math.max(goalBytes, neededBytes - thinStepBytes);
    const names = this.#ledger.names();
    const levels = new Set(names.map((name) => this.#classes.of(name).priority));
    for (const level of [...levels].filter((each) => each <= priority).toSorted((a, b) => a - b)) {
      for (const isLast of [false, true]) {
        const offers = new Offers(names, (name) => this.#victimOf(name, level, isLast));
        while (this.usedBytes() > goalBytes) {
          const victim = offers.take();
          if (victim === undefined) break;
          if (!victim.thin) this.#remove(victim.stream, victim.chunk, "quota", now);
          else if (this.usedBytes() <= thinGoalBytes) return;
          else this.#thin(victim.stream, this.usedBytes() - thinGoalBytes, now);
        }
      }
    }
  }

  /** What a stream of this priority gives next; `isLast`: what was thinned already has to go. */
  #victimOf(stream: string, level: number, isLast: boolean): Victim | undefined {
    const { priority, whenFull } = this.#classes.of(stream);
    if (priority !== level || whenFull === "reject" || whenFull === "never") return undefined;
    const thin = whenFull === "thin" && !isLast;
    const chunk = thin ? this.#thinning.candidate(stream) : this.#oldestOf(stream);
    return chunk && { stream, chunk, thin };
  }

  #keepsAny(): boolean {
    return this.#ledger
      .names()
      .some((name) => this.#classes.of(name).whenFull !== "never" && this.#oldestOf(name));
  }

  #bytesOf(name: string): number {
    const stream = this.#ledger.known(name);
    return stream === undefined ? 0 : stream.total - stream.trimmed;
  }

  #oldestOf(name: string): ChunkRow | undefined {
    const stream = this.#ledger.known(name);
    if (stream === undefined || stream.first > stream.head) return undefined;
    return this.#oldest.get(chunkId(stream.id, 0), chunkId(stream.id + 1, 0)) as
      | ChunkRow
      | undefined;
  }

  #thin(name: string, wantBytes: number, now: Moment): void {
    const thinned = this.#thinning.pass(name, this.#classes.of(name).thin, wantBytes);
    if (thinned === null) return;
    const { from, to, kept, dropped: events } = thinned;
    this.#tell({ stream: name, from, to, kept, reason: "thinned" }, events, now);
  }

  #remove(name: string, chunk: ChunkRow, reason: string, now: Moment): void {
    const stream = this.#ledger.stream(name);
    const passed = this.#ledger.passed(name);
    if (chunk.last === stream.head) {
      // The rows that tell where the stream ends are gone with this one.
      this.#db
        .prepare("UPDATE stream SET head = ?, total = ? WHERE id = ?")
        .run(stream.head, stream.total, stream.id);
    }
    const wasThinned = chunk.last <= stream.thinned;
    const gone = this.#thinning.countOf(stream, chunk);
    const events = this.#thinning.countAfter(stream, chunk, passed);
    this.#delete.run(chunkId(stream.id, chunk.first));
    if (wasThinned) {
      this.#thinning.forget(stream, chunk);
      this.#thinning.settleFirst(stream, gone);
      stream.trimmed += chunk.size;
    } else {
      stream.first = chunk.last + 1;
      stream.missing = 0;
      stream.trimmed = chunk.total;
    }
    if (chunk.last <= passed) return;
    const from = Math.max(chunk.first, passed + 1);
    // What thinning took behind it is missing as well.
    this.#tell({ stream: name, from, to: stream.first - 1, kept: 0, reason }, events, now);
  }

  #tell(gap: Gap, events: number, now: Moment): void {
    const { stream, from, to, reason } = gap;
    const before = this.#dropped.at(-1);
    if (before?.stream === stream && before.reason === reason && before.to + 1 === from) {
      this.#dropped[this.#dropped.length - 1] = { ...before, to, events: before.events + events };
    } else this.#dropped.push({ stream, from, to, events, reason });
    this.#gaps.note(gap, now);
  }

  /** The ranges whose time has come, to be emitted into `_gaps` in this very transaction. */
  takeDueGaps(now: Moment): readonly Gap[] {
    return this.#gaps.takeDue(now);
  }

  /** After a rollback: what the file says is true again. */
  discard(): void {
    this.#dropped = [];
    this.#gaps.discard();
  }
}

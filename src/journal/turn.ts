/**
 * One turn of the worker: everything that waited, in one transaction, made durable by its one fsync.
 *
 * Order within the transaction: what frees space and what must always work first (quotas, releases, purges, units
 * of work), then, if there is room, what sources handed over, then the gaps that are due; last the chunks of each
 * stream that was touched: one, or several after a burst. A unit that throws is taken back alone (SAVEPOINT) and
 * told; a unit whose cursors have moved is refused before it writes anything.
 *
 * When SQLite says FULL and nothing can be done about it (disk-room.ts), the turn is done again without the intake,
 * which goes back to wait; and when it says so again, with the units alone that bring nothing: a cursor that moves
 * sets free what the others wait for.
 */
import { noHeaders, type ClockQuality } from "../core/event.ts";
import { messageOf } from "../core/errors.ts";
import { intoChunks, sealChunk } from "./chunk.ts";
import { countOf, SectionEncoder } from "./section.ts";
import { gapsStream } from "./journal.ts";
import { chunkId, type Ledger, type Ordinals } from "./ledger.ts";
import type { Letters } from "./letters.ts";
import type { Intaken, Moment, PackedUnit, Turn, TurnResult, UnitResult } from "./protocol.ts";
import type { Damages } from "./damages.ts";
import type { Gap } from "./gaps.ts";
import { bytesByStream, divided, intakeBytes, isEmpty, rowOverheadBytes } from "./intaken.ts";
import { Packets } from "./packets.ts";
import type { Retention } from "./retention.ts";
import type { DiskRoom } from "./disk-room.ts";
import { isFull, type Db } from "./sqlite.ts";
import type { Waiting } from "./waiting.ts";

/** A cursor's row, and those of a few retries and keys of state: a page each. */
const unitPagesBytes = 4 * 4096;
/** The streams' quotas are looked at this often, ms. */
const quotasEveryMs = 1_000;

export class TurnWriter {
  readonly #db: Db;
  readonly #ledger: Ledger;
  readonly #retention: Retention;
  readonly #letters: Letters;
  readonly #ordinals: Ordinals;
  readonly #room: DiskRoom;
  readonly #sql;
  readonly #monotonicMs: () => number;
  readonly #damages: Damages;
  readonly #waiting: Waiting;
  readonly #packets: Packets;
  #sections = new Map<string, Uint8Array[]>();
  #nextQuotasMs = 0;
  #offsetIsKnown = false;

  constructor(
    db: Db,
    ledger: Ledger,
    retention: Retention,
    letters: Letters,
    ordinals: Ordinals,
    room: DiskRoom,
    monotonicMs: () => number,
    damages: Damages,
    waiting: Waiting,
  ) {
    this.#damages = damages;
    this.#waiting = waiting;
    this.#room = room;
    this.#monotonicMs = monotonicMs;
    this.#db = db;
    this.#ledger = ledger;
    this.#retention = retention;
    this.#letters = letters;
    this.#ordinals = ordinals;
    this.#packets = new Packets(db);
    this.#sql = statements(db);
  }

  /** @throws whatever SQLite throws that is not about room: nothing of the turn happened */
  apply(turn: Turn): TurnResult {
    const began = this.#monotonicMs();
    this.#room.upkeep();
    for (const what of ["all", "units", "freeing"] as const) {
      for (;;) {
        try {
          return this.#attempt(turn, what, began);
        } catch (error) {
          if (!isFull(error) && !this.#room.isUsedUp(error)) throw error;
          if (this.#room.widen(bytesIn(turn, what), what === "freeing")) continue;
          if (what === "freeing") throw error;
          break;
        }
      }
    }
    throw new Error("A turn that neither ended nor failed");
  }

  #attempt(turn: Turn, what: "all" | "units" | "freeing", began: number): TurnResult {
    this.#sections = new Map();
    const changesBefore = this.#sql.changes.get() as number;
    this.#db.exec("BEGIN IMMEDIATE");
    try {
      const { now } = turn;
      this.#recordOffset(now);
      if (now.monotonicMs >= this.#nextQuotasMs) {
        this.#retention.enforceQuotas(now);
        if (now.clock === "synced") this.#letters.expireOld(now.wallMs);
        this.#nextQuotasMs = now.monotonicMs + quotasEveryMs;
      }
      for (const packet of turn.releases) this.#packets.release(packet);
      for (const source of turn.forgets) this.#packets.forget(source);
      const purged = turn.purges.map(({ stream, ids }) => this.#letters.purge(stream, ids));
      const units = this.#units(turn.units, what === "freeing", now);
      const refused = what === "all" ? this.#intake(turn.intake, now) : turn.intake;
      if (turn.waited !== undefined) this.#waiting.written(turn.waited, refused);
      for (const gap of this.#damages.takeUntold()) this.#emitGap(gap, now);
      for (const gap of this.#retention.takeDueGaps(now)) this.#emitGap(gap, now);
      const touched = this.#writeChunks(now, turn.clock);
      for (const stream of touched) this.#retention.enforceBytes(stream, now);
      // What that has sealed is told in this transaction, or never.
      for (const gap of this.#retention.takeDueGaps(now)) this.#emitGap(gap, now);
      this.#writeChunks(now, turn.clock);
      const commits = (this.#sql.changes.get() as number) > changesBefore ? 1 : 0;
      const figures = { ...this.#ledger.changes(), ...this.#retention.space() };
      this.#db.exec("COMMIT");
      this.#ledger.keep();
      this.#damages.keep();
      return {
        kind: "done",
        refusedIntake: isEmpty(refused) ? null : refused,
        units,
        purged,
        dropped: [...this.#retention.takeDropped(), ...this.#letters.takeExpired()],
        commits,
        commitMs: this.#monotonicMs() - began,
        disk: this.#room.state(),
        figures,
      };
    } catch (error) {
      // A FULL or I/O error may have rolled back already (sqlite.org/lang_transaction.html).
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
      if (!isFull(error)) this.#voidFrames();
      this.#ledger.discard();
      this.#retention.discard();
      this.#letters.rewind(0);
      this.#nextQuotasMs = 0;
      this.#offsetIsKnown = false;
      throw error;
    }
  }

  /** Takes what there is room for, stream by stream; gives back the rest. */
  #intake(intake: Intaken, now: Moment): Intaken {
    const refused = this.#retention.refuse(bytesByStream(intake), now);
    const { taken, held } = divided(intake, refused);
    for (const { stream, bytes: section } of taken.sections) this.#add(stream, section);
    for (const letter of taken.letters) this.#letters.put(letter);
    for (const packet of taken.packets) this.#packets.put(packet);
    return held;
  }

  /**
   * Units in their order, as long as there is room for what they bring; `freeingOnly`: those that bring nothing, so
   * that what waits cannot stop the cursor whose move makes room for it. A group's later units wait behind its
   * first that does: they start where that one ends.
   */
  #units(units: readonly PackedUnit[], freeingOnly: boolean, now: Moment): UnitResult[] {
    const wanted = units.reduce((sum, unit) => sum + bytesOf(unit), 0);
    const into = units.flatMap(({ sections }) => sections.map(({ stream }) => stream));
    let room = freeingOnly || wanted === 0 ? 0 : this.#retention.roomForUnits(wanted, into, now);
    const waiting = new Set<string>();
    const results = units.map((unit) => {
      const bytes = bytesOf(unit);
      const mayGrow = unit.sections.every(({ stream, bytes: { length } }) =>
        this.#retention.mayGrow(stream, length, now),
      );
      if (waiting.has(unit.group) || (bytes > 0 && room <= 0) || !mayGrow) {
        waiting.add(unit.group);
        return { waits: unit };
      }
      room -= bytes;
      return this.#unit(unit);
    });
    // The cursors that have just moved may have set something free.
    if (waiting.size > 0) this.#retention.roomForUnits(wanted, into, now);
    return results;
  }

  #unit(unit: PackedUnit): UnitResult {
    const { group } = unit;
    for (const { stream, from } of unit.cursors) {
      if (this.#ledger.cursor(group, stream).seq !== from) return { committed: false };
    }
    if (!(unit.taken ?? []).every(({ stream, id }) => this.#letters.has(stream, id)))
      return { committed: false };
    const before = { drafts: this.#ledger.drafts(), expired: this.#letters.expiredCount };
    this.#db.exec("SAVEPOINT unit");
    try {
      this.#applyUnit(unit);
      this.#db.exec("RELEASE unit");
    } catch (error) {
      if (isFull(error) || !this.#db.inTransaction) throw error;
      this.#db.exec("ROLLBACK TO unit");
      this.#db.exec("RELEASE unit");
      this.#ledger.rewind(before.drafts);
      this.#letters.rewind(before.expired);
      return { error: messageOf(error) };
    }
    for (const { stream, to, mark } of unit.cursors) {
      const kept = mark === undefined ? this.#ledger.cursor(group, stream).mark : mark;
      this.#ledger.moveCursor(group, stream, { seq: to, mark: kept });
    }
    if (unit.ends === true) this.#ledger.forget(group);
    for (const { stream, bytes } of unit.sections) this.#add(stream, bytes);
    return { committed: true };
  }

  #applyUnit(unit: PackedUnit): void {
    const { group } = unit;
    for (const { stream, to, mark } of unit.cursors) {
      const kept = mark === undefined ? this.#ledger.cursor(group, stream).mark : mark;
      this.#sql.putCursor.run(group, stream, to, kept);
    }
    if (unit.ends === true) {
      this.#sql.deleteCursors.run(group);
      this.#sql.deleteRetries.run(group);
    }
    for (const { space, key, value } of unit.state ?? []) {
      if (value === null) this.#sql.deleteState.run(space, key);
      else this.#sql.putState.run(space, key, value);
    }
    for (const { stream, seq } of unit.retries?.remove ?? []) {
      this.#sql.deleteRetry.run(group, stream, seq);
    }
    for (const { event, attempts, dueAt, firstFailedAt, error } of unit.retries?.put ?? []) {
      this.#sql.putRetry.run({
        ...event,
        group,
        attempts,
        error,
        dueAt: Math.round(dueAt),
        firstFailedAt: Math.round(firstFailedAt),
        time: Math.round(event.time),
        receivedAt: Math.round(event.receivedAt),
        headers: JSON.stringify(event.headers),
      });
    }
    for (const { stream, id } of unit.taken ?? []) this.#letters.purge(stream, [id]);
    for (const letter of unit.deadLetters ?? []) this.#letters.put(letter);
  }

  #emitGap(gap: Gap, now: Moment): void {
    const encoder = new SectionEncoder(now.wallMs, now.monotonicMs);
    encoder.add({
      key: gap.stream,
      time: now.wallMs,
      receivedAt: now.wallMs,
      headers: noHeaders,
      payload: Buffer.from(JSON.stringify(gap)),
    });
    this.#add(gapsStream, encoder.finish());
  }

  #add(stream: string, section: Uint8Array): void {
    const sections = this.#sections.get(stream);
    if (sections === undefined) this.#sections.set(stream, [section]);
    else sections.push(section);
  }

  /** Gives back the streams that were touched. */
  #writeChunks(now: Moment, clock: ClockQuality): readonly string[] {
    const { epochs, boot } = this.#ordinals;
    if (this.#sections.size > 0) this.#ledger.made += 1;
    const chunks = [...this.#sections].flatMap(([name, sections]) =>
      intoChunks(sections).map((chunk) => [name, chunk] as const),
    );
    for (const [name, sections] of chunks) {
      const stream = this.#ledger.stream(name);
      const first = stream.head + 1;
      const body = sealChunk(sections, { first, epoch: epochs.ordinal, boot, clock });
      stream.head += sections.reduce((sum, section) => sum + countOf(section), 0);
      stream.total += body.length;
      this.#sql.putChunk.run({
        id: chunkId(stream.id, first),
        last: stream.head,
        made: this.#ledger.made,
        total: stream.total,
        size: body.length,
        // An unsynced wall clock says nothing: the boot's offset makes a time of this when it is known.
        at: Math.round(clock === "synced" ? now.wallMs : now.monotonicMs),
        synced: clock === "synced" ? 1 : 0,
        boot,
        body,
      });
      const rawBytes = sections.reduce((sum, section) => sum + section.length, 0);
      this.#retention.wrote(name, rawBytes, body.length);
    }
    const touched = [...this.#sections.keys()];
    this.#sections = new Map();
    return touched;
  }

  /**
   * When the fsync of a commit fails, its frames, the commit mark among them, stand in the WAL and in the page
   * cache: opened again, that WAL would bring back the turn that is about to be written once more, and its events
   * would be there twice. A small commit takes the place of the first of those frames; the rest no longer fits
   * its running checksum (sqlite.org/fileformat2.html, 4.3). That its fsync may fail as well does not matter: it is
   * the page cache that is read back. After a power cut either version is right: nobody was told of the turn.
   */
  #voidFrames(): void {
    try {
      this.#sql.countFailure.run();
    } catch {
      // Expected of a disk that fails.
    }
  }

  /** Once the clock is synced, this boot's earlier times can be put right. */
  #recordOffset(now: Moment): void {
    if (this.#offsetIsKnown || now.clock !== "synced") return;
    this.#sql.putOffset.run(now.wallMs - now.monotonicMs, this.#ordinals.boot);
    this.#offsetIsKnown = true;
  }
}

/** What a unit brings; 0: it only moves cursors and removes. */
function bytesOf(unit: PackedUnit): number {
  const brought = [
    ...unit.sections.map(({ bytes }) => bytes),
    ...(unit.deadLetters ?? []).map(({ payload }) => payload),
    ...(unit.state ?? []).flatMap(({ value }) => (value === null ? [] : [value])),
    ...(unit.retries?.put ?? []).map(({ event }) => event.payload),
  ];
  return brought.reduce((sum, { length }) => sum + length + rowOverheadBytes, 0);
}

/** What the disk must take for the turn, and for what each of its units touches. */
function bytesIn({ intake, units }: Turn, what: "all" | "units" | "freeing"): number {
  const touched = units.length * unitPagesBytes;
  if (what === "freeing") return touched;
  const brought = units.reduce((sum, unit) => sum + bytesOf(unit), touched);
  return what === "all" ? brought + intakeBytes(intake) : brought;
}

function statements(db: Db) {
  return {
    putChunk: db.prepare(
      "INSERT INTO chunk VALUES (@id, @last, @made, @total, @size, @at, @synced, @boot, @body)",
    ),
    putCursor: db.prepare("INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?)"),
    putState: db.prepare("INSERT OR REPLACE INTO state VALUES (?, ?, ?)"),
    deleteState: db.prepare("DELETE FROM state WHERE space = ? AND key = ?"),
    putRetry: db.prepare(
      `INSERT OR REPLACE INTO retry VALUES (@group, @stream, @seq, @attempts, @dueAt, @firstFailedAt, @error,
        @epoch, @clock, @key, @time, @receivedAt, @headers, @payload)`,
    ),
    deleteCursors: db.prepare("DELETE FROM cursor WHERE group_name = ?"),
    deleteRetries: db.prepare("DELETE FROM retry WHERE group_name = ?"),
    deleteRetry: db.prepare("DELETE FROM retry WHERE group_name = ? AND stream = ? AND seq = ?"),
    changes: db.prepare("SELECT total_changes()").pluck(),
    countFailure: db.prepare(
      `INSERT INTO meta VALUES ('failed-commits', '1')
        ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1`,
    ),
    putOffset: db.prepare("UPDATE boot SET offset_ms = ? WHERE ordinal = ?"),
  };
}

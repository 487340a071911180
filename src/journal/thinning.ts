/**
 * `whenFull: thin`: of what would be dropped, the first event of each key in each interval stays.
 *
 *   sparse │ dense … dense │ … newest          a pass takes the oldest dense chunks, never the newest, and writes
 *   ──────►│◄── one pass ─►│                   what it keeps as one sparse chunk (sparse.ts) in their place
 *
 * Deleting comes before writing, so a pass fits into a full file; all of it lies in the turn's one transaction, so a
 * crash leaves the chunks as they were or as they became. A sparse chunk that is still small is taken into the
 * next pass, so that one for each interval stays one also where an interval spans many passes.
 *
 * Bounds: a pass holds `passBytesMax` of what lies in the file, or `passChunksMax` chunks, as events in memory.
 */
import type { StoredEvent } from "../core/event.ts";
import { openChunk, sealChunk, type ChunkHead } from "./chunk.ts";
import { chunkColumns, chunkId, type ChunkRow, type Ledger, type StreamRecord } from "./ledger.ts";
import { chunkBytesMax, chunkEventsMax, decodeSections, SectionEncoder } from "./section.ts";
import type { Db } from "./sqlite.ts";

/** Some 10,000 events of telemetry, deflated: 20 ms here, a tenth of a second on a Pi Zero. */
const passBytesMax = 256 * 1024;
const passChunksMax = 1_024;
/** A sparse chunk of this size, bytes, is left as it is: to write it again with each pass would wear the disk. */
const sparseBytesMax = 32 * 1024;
/** Clocks are read one after the other and drift by 50 ppm: within this, ms, two sections have the same skew. */
const skewSlackMs = 10;

type FullRow = ChunkRow & { readonly body: Buffer };

interface Source {
  readonly row: FullRow;
  readonly head: ChunkHead;
  /** Times as they were taken, none put right: as such they are written again. */
  readonly events: readonly StoredEvent[];
  /** The monotone clock less the wall clock when it was packed, ms. */
  readonly skewMs: readonly number[];
}

interface Draft {
  readonly sections: Uint8Array[];
  readonly seqs: number[];
  bytes: number;
}

/** How a pass thins. */
export interface ThinRule {
  readonly intervalMs: number;
  /** What lies further apart never becomes one chunk, ms: it would outlive its time to live together. */
  readonly spanMs: number;
}

export interface Thinned {
  readonly from: number;
  readonly to: number;
  readonly kept: number;
  readonly dropped: number;
}

export class Thinning {
  readonly #ledger: Ledger;
  readonly #sql;

  constructor(db: Db, ledger: Ledger) {
    this.#ledger = ledger;
    const columns = `${chunkColumns}, body`;
    this.#sql = {
      next: db.prepare(
        `SELECT ${chunkColumns} FROM chunk WHERE id > ? AND id < ? ORDER BY id LIMIT 1`,
      ),
      nextFull: db.prepare(
        `SELECT ${columns} FROM chunk WHERE id > ? AND id < ? ORDER BY id LIMIT 1`,
      ),
      last: db.prepare(
        `SELECT ${columns} FROM chunk WHERE id = (SELECT max(id) FROM sparse WHERE id >= ? AND id < ?)`,
      ),
      count: db.prepare("SELECT count FROM sparse WHERE id = ?").pluck(),
      remove: db.prepare("DELETE FROM chunk WHERE id = ?"),
      unmark: db.prepare("DELETE FROM sparse WHERE id = ?"),
      mark: db.prepare("INSERT OR REPLACE INTO sparse (id, count, size) VALUES (?, ?, ?)"),
      put: db.prepare(
        `INSERT INTO chunk (id, last, made, total, size, at, synced, boot, body)
          VALUES (@id, @last, @made, @total, @size, @at, @synced, @boot, @body)`,
      ),
    };
  }

  /** The oldest chunk that has not been thinned; the newest never is. */
  candidate(name: string): ChunkRow | undefined {
    const record = this.#ledger.known(name);
    if (record === undefined || record.thinned >= record.head) return undefined;
    const row = this.#sql.next.get(...behind(record)) as ChunkRow | undefined;
    return row === undefined || row.last >= record.head ? undefined : row;
  }

  /** How many events a chunk holds. */
  countOf(record: StreamRecord, chunk: ChunkRow): number {
    const dense = chunk.last - chunk.first + 1;
    if (chunk.last > record.thinned) return dense;
    return (this.#sql.count.get(chunkId(record.id, chunk.first)) as number | undefined) ?? dense;
  }

  /** How many of a chunk's events come after `seq`. */
  countAfter(record: StreamRecord, chunk: ChunkRow, seq: number): number {
    if (seq < chunk.first) return this.countOf(record, chunk);
    const dense = chunk.last - seq;
    if (chunk.last > record.thinned) return dense;
    const id = chunkId(record.id, chunk.first);
    const row = this.#sql.nextFull.get(id - 1n, id + 1n) as FullRow | undefined;
    const seqs = row === undefined ? null : openChunk(row.body)?.head.seqs;
    return seqs?.filter((one) => one > seq).length ?? dense;
  }

  forget(record: StreamRecord, chunk: ChunkRow): void {
    if (chunk.last <= record.thinned) this.#sql.unmark.run(chunkId(record.id, chunk.first));
  }

  /** One pass over about `wantBytes` of the file; null: nothing was unpassed there, or nothing went. */
  pass(name: string, rule: ThinRule, wantBytes: number): Thinned | null {
    const { intervalMs, spanMs } = rule;
    const record = this.#ledger.stream(name);
    const sources = this.#sources(record, Math.min(wantBytes, passBytesMax), spanMs);
    const last = sources.at(-1);
    if (last === undefined) {
      this.#passOver(record);
      return null;
    }
    const passed = this.#ledger.passed(name);
    const earlier = this.#earlier(record, sources[0] as Source, spanMs);
    const seen = new Set(earlier.seen.map((event) => bucketOf(event, intervalMs)));
    const writer = new SparseWriter();
    let [kept, dropped, gone] = [0, 0, 0];
    for (const source of earlier.merged === null ? sources : [earlier.merged, ...sources]) {
      for (const [index, event] of source.events.entries()) {
        const bucket = bucketOf(event, intervalMs);
        const isOld = source === earlier.merged;
        if (event.seq > passed && (isOld || !seen.has(bucket))) {
          seen.add(bucket);
          writer.add(event, source.head.clock === "synced" ? 0 : (source.skewMs[index] ?? 0));
          kept += isOld ? 0 : 1;
        } else {
          gone += 1;
          if (event.seq > passed) dropped += 1;
        }
      }
    }
    if (gone === 0 && earlier.merged === null) this.#leave(record, sources);
    else this.#replace(record, earlier.merged, sources, writer.finish(), gone);
    record.thinned = last.row.last;
    const from = Math.max((sources[0] as Source).row.first, passed + 1);
    return dropped === 0 ? null : { from, to: last.row.last, kept, dropped };
  }

  /** The oldest dense chunks that belong together: of one boot, one epoch and one quality of the clock. */
  #sources(record: StreamRecord, wantBytes: number, spanMs: number): Source[] {
    const sources: Source[] = [];
    let [id, end] = behind(record);
    for (let bytes = 0; bytes < wantBytes && sources.length < passChunksMax;) {
      const row = this.#sql.nextFull.get(id, end) as FullRow | undefined;
      if (row === undefined || row.last >= record.head) break;
      const source = opened(row);
      if (source === null || !belongTogether(sources[0] ?? source, source, spanMs)) break;
      sources.push(source);
      bytes += row.size;
      id = chunkId(record.id, row.first);
    }
    return sources;
  }

  /** A damaged chunk stays as it is, for what reads it to tell. */
  #passOver(record: StreamRecord): void {
    const row = this.candidate(record.name);
    if (row === undefined) return;
    this.#sql.mark.run(chunkId(record.id, row.first), row.last - row.first + 1, row.size);
    record.thinned = row.last;
  }

  /** What the pass before kept last; `merged`: small enough to become one chunk with what this one keeps. */
  #earlier(
    record: StreamRecord,
    next: Source,
    spanMs: number,
  ): { seen: readonly StoredEvent[]; merged: Source | null } {
    const row = this.#sql.last.get(...range(record)) as FullRow | undefined;
    const source = row === undefined || record.thinned === 0 ? null : opened(row);
    if (source === null || !belongTogether(source, next, Infinity))
      return { seen: [], merged: null };
    const isOpen = source.row.size < sparseBytesMax && belongTogether(source, next, spanMs);
    return { seen: source.events, merged: isOpen ? source : null };
  }

  /** Nothing to thin there: it counts as thinned, so that the next pass goes on behind it. */
  #leave(record: StreamRecord, sources: readonly Source[]): void {
    for (const { row, head } of sources)
      this.#sql.mark.run(chunkId(record.id, row.first), head.count, row.size);
  }

  #replace(
    record: StreamRecord,
    merged: Source | null,
    sources: readonly Source[],
    drafts: readonly Draft[],
    gone: number,
  ): void {
    const all = merged === null ? sources : [merged, ...sources];
    const { row: oldest, head } = all[0] as Source;
    const { row: newest } = all.at(-1) as Source;
    for (const { row } of all) {
      this.#sql.remove.run(chunkId(record.id, row.first));
      record.trimmed += row.size;
    }
    if (merged !== null) this.#sql.unmark.run(chunkId(record.id, merged.row.first));
    for (const { sections, seqs } of drafts) {
      const { epoch, boot, clock } = head;
      const [first, id] = [seqs[0] ?? 0, chunkId(record.id, seqs[0] ?? 0)];
      const body = sealChunk(sections, { first, epoch, boot, clock, seqs });
      const { made } = oldest;
      const { total, at, synced } = newest;
      const size = body.length;
      const last = seqs.at(-1) ?? 0;
      this.#sql.put.run({ id, last, made, total, size, at, synced, boot, body });
      this.#sql.mark.run(id, seqs.length, size);
      record.trimmed -= size;
    }
    this.settleFirst(record, gone);
  }

  /** After `gone` events went, the oldest perhaps among them: where the stream begins, and what is missing behind. */
  settleFirst(record: StreamRecord, gone: number): void {
    const left = record.head - record.first + 1 - record.missing - gone;
    const oldest = this.#sql.next.get(...range(record)) as ChunkRow | undefined;
    record.first = oldest?.first ?? record.head + 1;
    record.missing = record.head - record.first + 1 - left;
  }
}

/** Packs what is kept into sections and chunks; an event that was packed under another skew begins a section. */
class SparseWriter {
  readonly #drafts: Draft[] = [];
  #encoder: SectionEncoder | undefined;
  #skewMs = 0;

  add(event: StoredEvent, skewMs: number): void {
    const draft = this.#drafts.at(-1);
    const bytes = (draft?.bytes ?? 0) + (this.#encoder?.bytes ?? 0);
    if (draft === undefined || draft.seqs.length >= chunkEventsMax || bytes >= chunkBytesMax) {
      this.#close();
      this.#drafts.push({ sections: [], seqs: [], bytes: 0 });
    }
    if (this.#encoder === undefined || Math.abs(skewMs - this.#skewMs) > skewSlackMs) {
      this.#close();
      this.#encoder = new SectionEncoder(event.receivedAt, event.receivedAt + skewMs);
      this.#skewMs = skewMs;
    }
    this.#encoder.add(event);
    this.#drafts.at(-1)?.seqs.push(event.seq);
  }

  finish(): readonly Draft[] {
    this.#close();
    return this.#drafts;
  }

  #close(): void {
    const draft = this.#drafts.at(-1);
    if (this.#encoder !== undefined && draft !== undefined) {
      draft.sections.push(this.#encoder.finish());
      draft.bytes += this.#encoder.bytes;
    }
    this.#encoder = undefined;
  }
}

function opened(row: FullRow): Source | null {
  const chunk = openChunk(row.body);
  if (chunk === null) return null;
  const { head, body } = chunk;
  const context = { stream: "", epoch: "", clock: "unsynced", first: head.first } as const;
  const decode = (bootOffsetMs: number | null): StoredEvent[] =>
    decodeSections(body, { ...context, seqs: head.seqs, bootOffsetMs });
  const events = decode(null);
  // What an offset of 0 does to a time is the section's skew.
  const shifted = head.clock === "synced" ? [] : decode(0);
  const skewMs = shifted.map((event, at) => event.receivedAt - (events[at]?.receivedAt ?? 0));
  return { row, head, events, skewMs };
}

function belongTogether(a: Source, b: Source, spanMs: number): boolean {
  const apartMs = (b.events[0]?.receivedAt ?? 0) - (a.events[0]?.receivedAt ?? 0);
  const isSame = (name: "epoch" | "boot" | "clock"): boolean => a.head[name] === b.head[name];
  return isSame("epoch") && isSame("boot") && isSame("clock") && apartMs <= spanMs;
}

function bucketOf({ key, receivedAt }: StoredEvent, intervalMs: number): string {
  return `${Math.floor(receivedAt / intervalMs)}\0${key === null ? "" : `=${key}`}`;
}

function range({ id }: StreamRecord): [bigint, bigint] {
  return [chunkId(id, 0), chunkId(id + 1, 0)];
}

/** Ids behind what was thinned. */
function behind(record: StreamRecord): [bigint, bigint] {
  return [chunkId(record.id, record.thinned), chunkId(record.id + 1, 0)];
}

/**
 * The table of dead letters: bounded for each stream, for the whole, and by age, the oldest expire first, counted. A letter
 * is on nobody's way downstream, so nothing else would ever make it give its room back.
 */
import type { NewDeadLetter } from "./journal.ts";
import type { Ledger } from "./ledger.ts";
import type { Dropped } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

/** Kept for one stream; beyond that the oldest expire. Kept in `put`. */
export const lettersMax = 10_000;
export const letterBytesMax = 16 * 1024 * 1024;
/** All streams' letters together, of `maxBytes`: a flood of bad messages must not stop the good ones. Kept in `put`. */
const lettersShare = 1 / 8;
/** A letter from before 2020 was written by a clock that was not set, and its age is not known. */
const plausibleMs = Date.UTC(2020, 0, 1);
/** In one turn, so that it stays short. */
const expiredAtOnce = 100;
/** What a letter takes: what is long, and about 256 bytes for names, times and the two b-trees' cells. */
export const letterSize = "length(payload) + length(headers) + length(reason) + 256";

export class Letters {
  readonly #ledger: Ledger;
  readonly #sql;
  readonly #allBytesMax: number;
  readonly #maxAgeMs: number;
  #expired: Dropped[] = [];

  constructor(db: Db, ledger: Ledger, maxBytes: number, maxAgeMs: number) {
    this.#ledger = ledger;
    this.#maxAgeMs = maxAgeMs;
    this.#sql = statements(db);
    this.#allBytesMax = maxBytes * lettersShare;
  }

  put(letter: NewDeadLetter): void {
    const stream = this.#ledger.stream(letter.stream);
    const bytes = this.#sql.put.get({
      ...letter,
      time: Math.round(letter.time),
      firstFailedAt: Math.round(letter.firstFailedAt),
      lastFailedAt: Math.round(letter.lastFailedAt),
      headers: JSON.stringify(letter.headers),
    }) as number;
    stream.letters += 1;
    stream.letterBytes += bytes;
    while (
      stream.letters > 1 &&
      (stream.letters > lettersMax || stream.letterBytes > letterBytesMax)
    ) {
      this.#expire(this.#sql.oldestOf.get(letter.stream) as OldestLetter);
    }
    let { letters, letterBytes } = this.#ledger.letters();
    for (; letters > 1 && letterBytes > this.#allBytesMax; letters--) {
      const oldest = this.#sql.oldest.get() as OldestLetter;
      this.#expire(oldest);
      letterBytes -= oldest.bytes;
    }
  }

  /** What is older than the journal's `maxAge`; asked only while the clock is right, and of times that one told. */
  expireOld(nowMs: number): void {
    for (let left = expiredAtOnce; left > 0; left--) {
      const oldest = this.#sql.oldest.get() as (OldestLetter & { failedAt: number }) | undefined;
      if (oldest === undefined || oldest.failedAt < plausibleMs) return;
      if (oldest.failedAt >= nowMs - this.#maxAgeMs) return;
      this.#expire(oldest, "dead-letter-age");
    }
  }

  #expire({ id, stream, bytes }: OldestLetter, reason = "dead-letter-bound"): void {
    const record = this.#ledger.stream(stream);
    this.#sql.remove.run(stream, id);
    record.letters -= 1;
    record.letterBytes -= bytes;
    this.#expired.push({ stream, from: id, to: id, events: 1, reason });
  }

  has(stream: string, id: number): boolean {
    return this.#sql.has.get(stream, id) !== undefined;
  }

  /** Removes a stream's, all or those named; gives back how many there were. */
  purge(name: string, ids: readonly number[] | null): number {
    if (this.#ledger.known(name) === undefined) return 0;
    const stream = this.#ledger.stream(name);
    const before = stream.letters;
    if (ids === null) this.#sql.removeAll.run(name);
    else for (const id of ids) this.#sql.remove.run(name, id);
    const left = this.#sql.count.get(name) as { letters: number; bytes: number };
    stream.letters = left.letters;
    stream.letterBytes = left.bytes;
    return before - left.letters;
  }

  /** How many have expired in this turn, for `rewind`. */
  get expiredCount(): number {
    return this.#expired.length;
  }

  /** What has expired since was taken back. */
  rewind(expiredCount: number): void {
    this.#expired.length = expiredCount;
  }

  takeExpired(): readonly Dropped[] {
    const expired = this.#expired;
    this.#expired = [];
    return expired;
  }
}

interface OldestLetter {
  readonly id: number;
  readonly stream: string;
  readonly bytes: number;
}

function statements(db: Db) {
  return {
    put: db
      .prepare(
        `INSERT INTO dead_letter (stream, seq, origin, origin_name, code, reason, attempts, first_failed_at,
          last_failed_at, key, time, headers, payload) VALUES (@stream, @seq, @origin, @originName, @code, @reason,
          @attempts, @firstFailedAt, @lastFailedAt, @key, @time, @headers, @payload) RETURNING ${letterSize}`,
      )
      .pluck(),
    oldestOf: db.prepare(
      `SELECT id, stream, ${letterSize} AS bytes FROM dead_letter WHERE stream = ? ORDER BY id LIMIT 1`,
    ),
    oldest: db.prepare(
      `SELECT id, stream, ${letterSize} AS bytes, last_failed_at AS failedAt FROM dead_letter ORDER BY id LIMIT 1`,
    ),
    has: db.prepare("SELECT 1 FROM dead_letter WHERE stream = ? AND id = ?"),
    remove: db.prepare("DELETE FROM dead_letter WHERE stream = ? AND id = ?"),
    removeAll: db.prepare("DELETE FROM dead_letter WHERE stream = ?"),
    count: db.prepare(
      `SELECT count(*) AS letters, coalesce(sum(${letterSize}), 0) AS bytes FROM dead_letter WHERE stream = ?`,
    ),
  };
}

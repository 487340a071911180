/**
 * What is taken in while a salvage has not found the ends of the streams yet: whole turns' intakes, durable and
 * acknowledged, without seqs. They get those in their order when the salvage is done; each row goes in the very
 * transaction that writes its events.
 *
 * Bound: `shareMax` of the journal's `maxBytes`; beyond that sources wait. Kept in `put`.
 */
import { deserialize, serialize } from "node:v8";
import type { ClockQuality } from "../core/event.ts";
import { isEmpty } from "./intaken.ts";
import { Packets } from "./packets.ts";
import type { Intaken, Turn } from "./protocol.ts";
import type { Db } from "./sqlite.ts";

const shareMax = 1 / 8;

type Kept = Pick<Turn, "intake" | "purges">;

export interface WaitingTurn extends Kept {
  readonly id: number;
  readonly boot: string;
  readonly clock: ClockQuality;
}

interface WaitingRow {
  readonly id: number;
  readonly boot: string;
  readonly clock: ClockQuality;
  readonly body: Buffer;
}

export class Waiting {
  readonly #put;
  readonly #next;
  readonly #replace;
  readonly #remove;
  readonly #bytesMax: number;
  readonly #db: Db;
  readonly #packets: Packets;
  #bytes: number;
  #isEmpty = false;

  constructor(db: Db, maxBytes: number) {
    this.#db = db;
    this.#packets = new Packets(db);
    this.#put = db.prepare("INSERT INTO waiting (boot, clock, body) VALUES (?, ?, ?)");
    this.#next = db.prepare("SELECT * FROM waiting ORDER BY id LIMIT 1");
    this.#replace = db.prepare("UPDATE waiting SET body = ? WHERE id = ?");
    this.#remove = db.prepare("DELETE FROM waiting WHERE id = ?");
    this.#bytes = db
      .prepare("SELECT coalesce(sum(length(body)), 0) FROM waiting")
      .pluck()
      .get() as number;
    this.#bytesMax = maxBytes * shareMax;
  }

  get hasRoom(): boolean {
    return this.#bytes < this.#bytesMax;
  }

  /** In one transaction of its own. Packet identifiers have no seq: they become true at once. */
  put(turn: Turn, boot: string): void {
    const { intake, releases, forgets, purges } = turn;
    const others = releases.length + forgets.length + purges.length;
    if (isEmpty(intake) && others === 0) return;
    const rest = { ...intake, packets: [] };
    const body = serialize({ intake: rest, purges } satisfies Kept);
    this.#db.transaction(() => {
      for (const packet of releases) this.#packets.release(packet);
      for (const source of forgets) this.#packets.forget(source);
      for (const packet of intake.packets) this.#packets.put(packet);
      if (!isEmpty(rest) || purges.length > 0) this.#put.run(boot, turn.clock, body);
    })();
    this.#isEmpty = false;
    this.#bytes += body.length;
  }

  /** Known without asking the file, once it was asked: rows come by `put` alone. */
  get isEmpty(): boolean {
    return this.#isEmpty || this.next() === null;
  }

  /** The oldest; null: none waits. */
  next(): WaitingTurn | null {
    const row = this.#next.get() as WaitingRow | undefined;
    this.#isEmpty = row === undefined;
    if (row === undefined) return null;
    const { intake, purges } = deserialize(row.body) as Kept;
    return { intake, purges, id: row.id, boot: row.boot, clock: row.clock };
  }

  /** Within the transaction that wrote all of it but `rest`. */
  written(id: number, rest: Intaken): void {
    if (isEmpty(rest)) this.#remove.run(id);
    else this.#replace.run(serialize({ intake: rest, purges: [] } satisfies Kept), id);
  }
}

/**
 * A journal's file looked at from outside, without SQLite and without a write: for a stopped agent's file and for a
 * damaged one. Memory: one page, one chunk, the small tables' rows, one entry a stream.
 */
import type { StoredEvent } from "../core/event.ts";
import { openChunk } from "./chunk.ts";
import { seqMask, streamOf } from "./ledger.ts";
import type { Row } from "./page-rows.ts";
import type { Damage } from "./journal.ts";
import { fits, SalvagePages, tableOf, type Found } from "./salvage-pages.ts";
import { decodeSections } from "./section.ts";
import { refuseStrangers, isDamage } from "./sqlite.ts";

export interface InspectedStream {
  readonly stream: string;
  readonly first: number;
  readonly last: number;
  readonly events: number;
}

export interface InspectedCursor {
  readonly group: string;
  readonly stream: string;
  readonly seq: number;
}

export interface InspectedChunk {
  readonly stream: string;
  readonly first: number;
  readonly last: number;
  /** null: damaged. */
  readonly events: (() => StoredEvent[]) | null;
}

export class Inspection {
  readonly #pages: SalvagePages;
  readonly #epochs = new Map<number, string>();
  readonly #offsets = new Map<number, number | null>();
  readonly #names = new Map<number, string>();
  readonly cursors: InspectedCursor[] = [];
  deadLetters = 0;
  device = "";

  /** @throws HoldfastError JOURNAL_FOREIGN */
  constructor(path: string) {
    try {
      refuseStrangers(path);
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
    this.#pages = new SalvagePages(path);
    for (const table of ["meta", "epoch", "boot", "stream", "cursor", "dead_letter"]) {
      for (const found of this.#pages.table(table)) this.#take(found, table);
    }
    if (this.#pages.broken.size > 0) {
      for (const found of this.#pages.others()) {
        if (found !== null) this.#take(found, null);
      }
    }
  }

  get pages(): number {
    return this.#pages.file.pages;
  }

  /** Tables whose b-trees are not whole. */
  get broken(): readonly string[] {
    return [...this.#pages.broken];
  }

  close(): void {
    this.#pages.file.close();
  }

  /** In order where the tree is whole, as they lie in the file where it is not. */
  *chunks(): Generator<InspectedChunk> {
    for (const { tree } of this.#pages.table("chunk")) {
      for (let cell = 0; cell < tree.cells; cell++) {
        const row = tree.row(cell, this.#pages.file);
        if (row !== null) yield this.#chunk(row);
        else this.#pages.broken.add("chunk");
      }
    }
    if (!this.#pages.broken.has("chunk")) return;
    for (const found of this.#pages.others()) {
      for (let cell = 0; cell < (found?.tree.cells ?? 0); cell++) {
        const row = found?.tree.row(cell, this.#pages.file) ?? null;
        if (row !== null && tableOf(row) === "chunk") yield this.#chunk(row);
      }
    }
  }

  /** Reads every chunk. */
  check(): { streams: InspectedStream[]; damaged: Damage[] } {
    const streams = new Map<string, InspectedStream>();
    const damaged: Damage[] = [];
    for (const { stream, first, last, events } of this.chunks()) {
      if (events === null) {
        damaged.push({ stream, from: first, to: last });
        continue;
      }
      const known = streams.get(stream) ?? { stream, first, last, events: 0 };
      streams.set(stream, {
        stream,
        first: Math.min(known.first, first),
        last: Math.max(known.last, last),
        events: known.events + events().length,
      });
    }
    return { streams: [...streams.values()], damaged };
  }

  #take({ tree }: Found, table: string | null): void {
    for (let cell = 0; cell < tree.cells; cell++) {
      const row = tree.row(cell, this.#pages.file);
      const name = row === null ? null : (table ?? tableOf(row));
      if (row === null || name === null || !fits(name, row)) continue;
      const { values } = row;
      const ordinal = Number(row.rowid ?? 0n);
      if (name === "meta" && values[0] === "device") this.device = String(values[1]);
      else if (name === "epoch") this.#epochs.set(ordinal, String(values[1]));
      else if (name === "boot") this.#offsets.set(ordinal, (values[2] ?? null) as number | null);
      else if (name === "stream") this.#names.set(ordinal, String(values[1]));
      else if (name === "dead_letter") this.deadLetters += 1;
      else if (name === "cursor") {
        const [group, stream, seq] = values;
        this.cursors.push({ group: String(group), stream: String(stream), seq: Number(seq) });
      }
    }
  }

  #chunk({ rowid, values }: Row): InspectedChunk {
    const id = rowid ?? 0n;
    const number = streamOf(id);
    const stream = this.#names.get(number) ?? `stream ${number}`;
    const first = Number(id & BigInt(seqMask));
    const last = Number(values[1]);
    const opened = Buffer.isBuffer(values[8]) ? openChunk(values[8]) : null;
    if (opened === null || opened.head.first !== first)
      return { stream, first, last, events: null };
    const { head, body } = opened;
    const events = (): StoredEvent[] =>
      decodeSections(body, {
        ...head,
        stream,
        epoch: this.#epochs.get(head.epoch) ?? "",
        bootOffsetMs: this.#offsets.get(head.boot) ?? null,
      });
    return { stream, first, last, events };
  }
}

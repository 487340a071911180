/**
 * Which pages of a damaged file hold which table's rows: by its b-tree where that is whole, by looking at every
 * other page where it is not. A row that was found so is known by its shape.
 *
 * Memory: one bit a page.
 */
import { PageFile } from "./page-file.ts";
import { pageTypes, TreePage, type Row, type Value } from "./page-rows.ts";

/** Deeper than any tree of 2^31 pages (two children at least, 40 in fact). */
const depthMax = 32;

/**
 * Where the trees of the tables begin whose rows are needed before anything can be taken in, and the chunks': always
 * there, since all are made in one transaction of a new file. By page size, where the schema itself cannot be read.
 */
export const usualRoots: Readonly<Record<number, Readonly<Record<string, number>>>> = {
  1024: { meta: 2, epoch: 3, boot: 4, stream: 6, chunk: 8, cursor: 9, packet_id: 18, gap: 19 },
  4096: { meta: 2, epoch: 3, boot: 4, stream: 6, chunk: 8, cursor: 9, packet_id: 15, gap: 16 },
};

export interface Found {
  readonly page: number;
  readonly tree: TreePage;
}

export class SalvagePages {
  readonly file: PageFile;
  readonly #seen: Uint8Array;
  readonly #roots = new Map<string, number>();
  /** Tables whose tree is not whole. */
  readonly broken = new Set<string>();
  #freeIsKnown = false;

  constructor(path: string) {
    this.file = new PageFile(path);
    this.#seen = new Uint8Array(Math.ceil((this.file.pages + 1) / 8));
    for (const { tree } of this.tree("schema", 1)) {
      if (tree.type !== pageTypes.tableLeaf) continue;
      for (let cell = 0; cell < tree.cells; cell++) {
        const [, name, , root] = tree.row(cell, this.file)?.values ?? [];
        if (typeof name === "string" && typeof root === "number") this.#roots.set(name, root);
      }
    }
    if (!this.broken.has("schema")) return;
    for (const [name, root] of Object.entries(usualRoots[this.file.pageBytes] ?? {}))
      if (!this.#roots.has(name)) this.#roots.set(name, root);
  }

  /** Pages with rows of one table, from its root on. */
  *table(name: string): Generator<Found> {
    const root = this.#roots.get(name);
    if (root === undefined) this.broken.add(name);
    else yield* this.tree(name, root);
  }

  *tree(name: string, page: number, depth = 0): Generator<Found> {
    const tree = page <= this.file.pages ? TreePage.of(this.file.page(page), page) : null;
    if (tree === null || depth > depthMax || this.#isSeen(page)) {
      this.broken.add(name);
      return;
    }
    this.#see(page);
    // Tables without rowid have rows in their interior pages as well.
    if (tree.type !== pageTypes.tableInterior) yield { page, tree };
    for (const child of tree.children()) yield* this.tree(name, child, depth + 1);
  }

  /** Every page that no tree has led to and that is not known to be free. */
  *others(): Generator<Found | null> {
    if (!this.#freeIsKnown) this.#seeFree();
    for (let page = 1; page <= this.file.pages; page++) {
      if (this.#isSeen(page)) continue;
      const tree = TreePage.of(this.file.page(page), page);
      yield tree === null || tree.type === pageTypes.tableInterior ? null : { page, tree };
    }
  }

  /** What is on the freelist is old (sqlite.org/fileformat2.html, 1.5). */
  #seeFree(): void {
    this.#freeIsKnown = true;
    let trunk = this.file.page(1)?.readUInt32BE(32) ?? 0;
    while (trunk > 0 && trunk <= this.file.pages && !this.#isSeen(trunk)) {
      const page = this.file.page(trunk);
      if (page === null) return;
      const leaves = page.readUInt32BE(4);
      // No list: half of one would hide pages that are in use.
      if (leaves > page.length / 4 - 2) return;
      this.#see(trunk);
      for (let index = 0; index < leaves; index++) {
        const leaf = page.readUInt32BE(8 + index * 4);
        if (leaf > 0 && leaf <= this.file.pages) this.#see(leaf);
      }
      trunk = page.readUInt32BE(0);
    }
  }

  #isSeen(page: number): boolean {
    return ((this.#seen[page >> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }

  #see(page: number): void {
    this.#seen[page >> 3] = (this.#seen[page >> 3] ?? 0) | (1 << (page & 7));
  }
}

/** One letter a column, as they lie on disk: i(nteger), r(eal or integer), t(ext), b(lob); upper case: or null. */
const shapes: Readonly<Record<string, { shape: string; hasRowid: boolean }>> = {
  meta: { shape: "tt", hasRowid: false },
  epoch: { shape: "NtTtiT", hasRowid: true },
  boot: { shape: "NtR", hasRowid: true },
  stream: { shape: "Ntii", hasRowid: true },
  cursor: { shape: "ttiT", hasRowid: false },
  state: { shape: "ttb", hasRowid: false },
  retry: { shape: "ttiiiitttTiitb", hasRowid: false },
  dead_letter: { shape: "NtIttttiiiTitb", hasRowid: true },
  packet_id: { shape: "tiI", hasRowid: false },
  gap: { shape: "ttiii", hasRowid: false },
  sparse: { shape: "Nii", hasRowid: true },
  chunk: { shape: "Niiiiiiib", hasRowid: true },
};

/** Whose row it can be; null: nobody's. */
export function tableOf(row: Row): string | null {
  for (const name of Object.keys(shapes)) if (fits(name, row)) return name;
  return null;
}

export function fits(table: string, { rowid, values }: Row): boolean {
  const known = shapes[table];
  if (known === undefined || known.hasRowid !== (rowid !== null)) return false;
  if (values.length > known.shape.length) return false;
  return known.shape.split("").every((letter, index) => {
    // A column that a later version added is not in an older row.
    if (index >= values.length) return index >= known.shape.length - 1;
    return matches(letter, values[index] ?? null);
  });
}

function matches(letter: string, value: Value): boolean {
  if (value === null) return letter === letter.toUpperCase();
  const kind = letter.toLowerCase();
  if (kind === "i") return Number.isInteger(value);
  if (kind === "r") return typeof value === "number";
  if (kind === "t") return typeof value === "string";
  return kind === "b" && Buffer.isBuffer(value);
}

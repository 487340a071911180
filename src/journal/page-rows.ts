/**
 * Rows out of single pages of an SQLite file (sqlite.org/fileformat2.html, 1.6 and 2.1), believing nothing: what
 * does not fit its page is no row. Whether a chunk's bytes are right its own checksum says.
 */
import type { PageFile } from "./page-file.ts";

export type Value = null | number | string | Buffer;

export interface Row {
  /** null: a row of a table without rowid. */
  readonly rowid: bigint | null;
  readonly values: readonly Value[];
}

/** The first byte of a page. */
export const pageTypes = {
  indexInterior: 0x02,
  tableInterior: 0x05,
  indexLeaf: 0x0a,
  tableLeaf: 0x0d,
} as const;
const types: ReadonlySet<number> = new Set(Object.values(pageTypes));
/** No row of ours is larger: an MQTT packet has 256 MiB at the most, a chunk or a letter holds one beside little. */
const rowBytesMax = 300 * 1024 * 1024;

/** A page of a b-tree; null: it is none. */
export class TreePage {
  readonly type: number;
  readonly #page: Buffer;
  readonly #cells: readonly number[];
  readonly #head: number;

  private constructor(page: Buffer, head: number, cells: readonly number[]) {
    this.type = page[head] ?? 0;
    this.#page = page;
    this.#head = head;
    this.#cells = cells;
  }

  static of(page: Buffer | null, number: number): TreePage | null {
    // The first 100 bytes of the file stand before its first page's own.
    const head = number === 1 ? 100 : 0;
    const type = page?.[head] ?? 0;
    if (page === null || !types.has(type)) return null;
    const isLeaf = type === pageTypes.indexLeaf || type === pageTypes.tableLeaf;
    const array = head + (isLeaf ? 8 : 12);
    const count = page.readUInt16BE(head + 3);
    if (array + count * 2 > page.length) return null;
    const cells: number[] = [];
    for (let index = 0; index < count; index++) {
      const at = page.readUInt16BE(array + index * 2);
      if (at < array + count * 2 || at > page.length - 4) return null;
      cells.push(at);
    }
    return new TreePage(page, head, cells);
  }

  get isLeaf(): boolean {
    return this.type === pageTypes.indexLeaf || this.type === pageTypes.tableLeaf;
  }

  get cells(): number {
    return this.#cells.length;
  }

  /** Pages below an interior one, in the order of their keys. */
  children(): number[] {
    if (this.isLeaf) return [];
    const below = this.#cells.map((at) => this.#page.readUInt32BE(at));
    return [...below, this.#page.readUInt32BE(this.#head + 8)];
  }

  /** The rowid of a table leaf's cell without the rest of its row. */
  rowid(index: number): bigint | null {
    if (this.type !== pageTypes.tableLeaf) return null;
    const [, at] = varint(this.#page, this.#cells[index] ?? this.#page.length);
    return varint(this.#page, at)[0];
  }

  /** null: that cell is no row. */
  row(index: number, file: PageFile): Row | null {
    if (this.type === pageTypes.tableInterior) return null;
    let at = this.#cells[index] ?? this.#page.length;
    if (this.type === pageTypes.indexInterior) at += 4;
    const [length, afterLength] = varint(this.#page, at);
    const isTable = this.type === pageTypes.tableLeaf;
    const [rowid, begin] = isTable
      ? varint(this.#page, afterLength)
      : ([null, afterLength] as const);
    const payload = this.#payload(Number(length), begin, isTable, file);
    const values = payload === null ? null : recordOf(payload);
    return values === null ? null : { rowid, values };
  }

  #payload(length: number, begin: number, isTable: boolean, file: PageFile): Buffer | null {
    const { pageBytes } = file;
    // 1.6: a page of an index holds at least four rows, a quarter of each.
    const max = isTable ? pageBytes - 35 : Math.floor(((pageBytes - 12) * 64) / 255) - 23;
    const localMin = Math.floor(((pageBytes - 12) * 32) / 255) - 23;
    if (length > rowBytesMax || length > file.pages * pageBytes) return null;
    let local = length;
    if (length > max) {
      local = localMin + ((length - localMin) % (pageBytes - 4));
      if (local > max) local = localMin;
    }
    const end = begin + local;
    if (end + (length > local ? 4 : 0) > pageBytes) return null;
    const parts = [this.#page.subarray(begin, end)];
    let rest = length - local;
    let next = rest > 0 ? this.#page.readUInt32BE(end) : 0;
    while (rest > 0) {
      const page = next === 0 || next > file.pages ? null : file.page(next);
      if (page === null) return null;
      const bytes = Math.min(rest, pageBytes - 4);
      parts.push(page.subarray(4, 4 + bytes));
      next = page.readUInt32BE(0);
      rest -= bytes;
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }
}

/** sqlite.org/fileformat2.html, 1.6: up to nine bytes, the ninth whole. Gives back what follows, too. */
function varint(bytes: Buffer, from: number): [bigint, number] {
  let value = 0n;
  for (let index = 0; index < 9; index++) {
    const byte = bytes[from + index] ?? 0;
    if (index === 8) return [(value << 8n) | BigInt(byte), from + 9];
    value = (value << 7n) | BigInt(byte & 127);
    if (byte < 128) return [value, from + index + 1];
  }
  return [value, from + 9];
}

/** sqlite.org/fileformat2.html, 2.1; null: the bytes are no record. */
function recordOf(payload: Buffer): Value[] | null {
  const [headerBytes, first] = varint(payload, 0);
  const end = Number(headerBytes);
  if (end < first || end > payload.length) return null;
  const values: Value[] = [];
  let body = end;
  for (let at = first; at < end;) {
    const [type, next] = varint(payload, at);
    at = next;
    const kind = Number(type);
    const bytes = sizeOf(kind);
    if (bytes === null || body + bytes > payload.length) return null;
    values.push(valueOf(payload.subarray(body, body + bytes), kind));
    body += bytes;
  }
  return body === payload.length ? values : null;
}

const intBytes = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0];

function sizeOf(kind: number): number | null {
  if (kind >= 12) return Math.floor((kind - 12) / 2);
  return intBytes[kind] ?? null;
}

function valueOf(bytes: Buffer, kind: number): Value {
  if (kind === 0) return null;
  if (kind === 8 || kind === 9) return kind - 8;
  if (kind === 7) return bytes.readDoubleBE(0);
  if (kind === 6) return Number(bytes.readBigInt64BE(0));
  if (kind < 6) return bytes.readIntBE(0, bytes.length);
  return kind % 2 === 0 ? Buffer.from(bytes) : bytes.toString("utf8");
}

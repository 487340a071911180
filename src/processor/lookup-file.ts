/**
 * A table in a file, CSV or JSON, by the values of one column; read anew when the file changes.
 *
 * A file that is read while it is written, or is wrong, leaves the table as it was and is told once; write a new file
 * beside it and rename it. Bounds: `fileBytesMax`, `rowsMax`.
 */
import { readFile, stat } from "node:fs/promises";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { isMap } from "../core/path.ts";

/** 8 MiB: read at once, and some 100,000 lines. */
const fileBytesMax = 8 * 1024 * 1024;
const rowsMax = 100_000;

export type LookupRow = Readonly<Record<string, unknown>>;

/** The table has rows, and none of them the column that it is looked up by. */
export class NoSuchColumn extends Error {
  readonly columns: readonly string[];

  constructor(column: string, columns: readonly string[]) {
    super(`it has no column ${column}`);
    this.columns = columns;
  }
}

export class LookupFile {
  readonly #path: string;
  readonly #column: string;
  /** When and how large the file was; null: not read yet. */
  #version: string | null = null;
  #rows: ReadonlyMap<string, LookupRow> = new Map();

  constructor(path: string, column: string) {
    this.#path = path;
    this.#column = column;
  }

  get(key: string): LookupRow | undefined {
    return this.#rows.get(key);
  }

  /**
   * Reads the file if it is another than before; true: it was.
   * @throws HoldfastError CONFIG_INVALID when it cannot be read as a table; what was read before stays
   */
  async refresh(): Promise<boolean> {
    let version: string;
    try {
      const { mtimeMs, size, ino } = await stat(this.#path).catch((cause: unknown) => {
        throw isMissing(cause) ? new Error("no such file", { cause }) : cause;
      });
      version = `${mtimeMs} ${size} ${ino}`;
      if (version === this.#version) return false;
      // Also a wrong one is read once.
      this.#version = version;
      if (size > fileBytesMax) throw new Error(`it has ${size} bytes, at most ${fileBytesMax}`);
      const text = await readFile(this.#path, "utf8");
      this.#rows = rowsIn(text, this.#column, this.#path.endsWith(".json"));
    } catch (cause) {
      const why = `Cannot read table ${this.#path}: ${messageOf(cause)}`;
      throw new HoldfastError("CONFIG_INVALID", why, { cause });
    }
    return true;
  }
}

/**
 * JSON: a list of objects, or an object of objects, whose names are the keys then. CSV: the first line names the
 * columns; a cell that is a JSON number, true or false is one, an empty cell is none.
 */
export function rowsIn(text: string, column: string, isJson: boolean): Map<string, LookupRow> {
  const rows = new Map<string, LookupRow>();
  const add = (key: unknown, row: LookupRow, where: string): void => {
    if (key === undefined || key === null) throw new Error(`${where} has no ${column}`);
    const name = typeof key === "string" ? key : JSON.stringify(key);
    if (rows.has(name)) throw new Error(`${where} has ${column} ${name} a second time`);
    rows.set(name, row);
    if (rows.size > rowsMax) throw new Error(`it has more than ${rowsMax} rows`);
  };
  if (!isJson) {
    // What a cell is read as must not change its name: 007 and 7 are two devices.
    csvRows(text, column).forEach(({ raw, row }, index) =>
      add(raw[column], row, `row ${index + 1}`),
    );
    return rows;
  }
  const value: unknown = JSON.parse(text);
  if (isMap(value)) {
    for (const [name, row] of Object.entries(value)) {
      if (!isMap(row)) throw new Error(`${name} is no object`);
      add(name, row, name);
    }
    return rows;
  }
  if (!Array.isArray(value)) throw new Error("it is neither a list nor an object");
  const columns = [
    ...new Set(value.flatMap((row: unknown) => (isMap(row) ? Object.keys(row) : []))),
  ];
  if (value.length > 0 && value.every(isMap) && !columns.includes(column)) {
    throw new NoSuchColumn(column, columns);
  }
  value.forEach((row: unknown, index) => {
    if (!isMap(row)) throw new Error(`row ${index + 1} is no object`);
    add(row[column], row, `row ${index + 1}`);
  });
  return rows;
}

/** `raw`: the cells as they stand. */
function csvRows(
  text: string,
  column: string,
): { raw: Readonly<Record<string, string>>; row: LookupRow }[] {
  const [head, ...lines] = csvLines(text.replace(/^\uFEFF/, ""));
  if (head === undefined) throw new Error("it is empty");
  if (!head.includes(column)) throw new NoSuchColumn(column, head);
  return lines.map((cells, index) => {
    if (cells.length !== head.length) {
      throw new Error(`row ${index + 1} has ${cells.length} cells, the first line ${head.length}`);
    }
    const named = cells.map((cell, at): [string, string] => [head[at] ?? "", cell]);
    const given = named.filter(([, cell]) => cell !== "");
    const values = given.map(([name, cell]): [string, unknown] => [name, cellValue(cell)]);
    return { raw: Object.fromEntries(given), row: Object.fromEntries(values) };
  });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function cellValue(cell: string): unknown {
  if (cell === "true" || cell === "false") return cell === "true";
  // A JSON number: 007 is none.
  return /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(cell) ? Number(cell) : cell;
}

/** RFC 4180: cells between commas, in quotes where they hold a comma, a quote (doubled) or a line end. */
function csvLines(text: string): string[][] {
  const lines: string[][] = [];
  let line: string[] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/gy;
  while (cell.lastIndex < text.length) {
    const at = cell.lastIndex;
    const match = cell.exec(text);
    if (match === null)
      throw new Error(`a quote is not closed or stands amid a cell, at character ${at}`);
    line.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? "");
    if (match[3] === ",") {
      if (cell.lastIndex === text.length) line.push("");
      else continue;
    }
    if (line.length > 1 || line[0] !== "") lines.push(line);
    line = [];
  }
  return lines;
}
